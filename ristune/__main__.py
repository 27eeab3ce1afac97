"""The console script: `ristune COMMAND ...` is `python -m ristune.COMMAND ...`."""

import importlib
import sys

COMMANDS = {
    "simulate": "draw a dataset",
    "train": "run one trial, on one GPU or the CPU",
    "sweep": "search: many trials on this machine or a cluster",
    "evaluate": "measure a checkpoint on a dataset's test split",
}


def main() -> int:
    """Dispatch on the first word."""
    usage = "usage: ristune COMMAND ...\n\n" + "\n".join(f"  {n:10} {d}" for n, d in COMMANDS.items())
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(usage + "\n\n`ristune COMMAND --help` tells more.")
        return 0
    command = sys.argv[1]
    if command not in COMMANDS:
        print(
            f"error: command: got {command!r}; it must be one of {', '.join(COMMANDS)}\n{usage}",
            file=sys.stderr,
        )
        return 2
    module = "ristune.sweep.__main__" if command == "sweep" else f"ristune.{command}"
    status: int = importlib.import_module(module).main(sys.argv[2:])
    return status


if __name__ == "__main__":
    sys.exit(main())
