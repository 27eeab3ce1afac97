"""What a trial costs beside its training: ours and stock Ray Tune, with W&B offline and without a tracker.

    python -m benchmarks.sweep.overhead [--trials 60] [--rounds 3] [--variants ours stock ...] [--cores 2]

All run the tests' toy task, of so little work that all that is left is overhead: 9 epochs of one batch of
64 rows, then one of validation, and a report each; no trial is stopped early, so that all run the same.
Ours is `ristune.sweep` as a user starts it, with its checkpoints, its journal and its own trainer;
`trivial` has the stock engine, which keeps no checkpoint. They run in turns, a process each; who goes first
changes with the round.

The time is that of Tune's loop, without Ray's start and end: with the stock engine from the first turn of
the loop to its end, with ours from the first `asked` in the journal, in that turn, to the last `told`. It
is divided by the trials, of which as many run at once as there are cores. Each worker's first trial pays
for its start and imports: "after the start" leaves out, of ours, the time before as many trials had ended
as there are cores. Run it where the repository is.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ristune import cli
from ristune.sweep.journal import read

EPOCHS, ROWS = 9, 64
# The arguments of `trivial`, and the tracking of ours.
STOCK = {"stock": ["--tracked"], "stock-reuse": ["--tracked", "--reuse"], "stock-untracked": ["--reuse"]}
OURS = {"ours": "offline", "ours-untracked": "disabled"}
# Beside which the others are shown.
YARDSTICK = "stock"


@dataclass(frozen=True)
class Measured:
    """Seconds a trial of one sweep, in all and after its workers had started; None where not known."""

    all: float
    after: float | None


def environment(folder: Path) -> dict[str, str]:
    """As a user has it who has set nothing of Ray's or W&B's; caches and sockets lie in a folder of ours."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_", "WANDB_"))
    }
    return {
        **clean,
        "HOME": str(folder),
        "RAY_TMPDIR": str(folder / "ray"),
        "RISTUNE_CACHE": str(folder / "cache"),
    }


def stock(options: Sequence[str], trials: int, cores: int, folder: Path) -> Measured:
    """One sweep of the stock engine."""
    sizes = ["--trials", str(trials), "--epochs", str(EPOCHS), "--cores", str(cores)]
    printed = run(["benchmarks.sweep.trivial", *sizes, "--folder", str(folder / "stock"), *options], folder)
    found = json.loads(printed.splitlines()[-1])
    check("reports", found["reports"], trials * EPOCHS)
    return Measured(found["seconds"] / trials, None)


def ours(tracking: str, trials: int, cores: int, folder: Path) -> Measured:
    """One sweep of ristune's."""
    run(
        [
            "ristune.sweep",
            *("--name", "ours", "--trials", str(trials), "--config-dir", "tests/configs"),
            *("task=toy", "space=toy", f"data.uri={folder / 'data'}", f"output={folder / 'runs'}"),
            *(f"simulator.{split}={ROWS}" for split in ("train", "val", "test")),
            *(f"training.epochs={EPOCHS}", f"training.batch_size={ROWS}", "training.device=cpu"),
            *(f"sweep.grace={EPOCHS}", f"sweep.concurrency={cores}", f"tracking.mode={tracking}"),
        ],
        folder,
    )
    events = read(folder / "runs" / "ours" / "journal" / "events.jsonl")
    check("reports", sum(event["event"] == "reported" for event in events), trials * EPOCHS)
    runs = len(list((folder / "runs" / "ours" / "trials").glob("*/wandb/offline-run-*/*.wandb")))
    check("W&B runs", runs, trials if tracking == "offline" else 0)
    asked = [event["time"] for event in events if event["event"] == "asked"]
    told = [event["time"] for event in events if event["event"] == "told"]
    after = (told[-1] - told[cores - 1]) / (trials - cores) if trials > cores else None
    return Measured((told[-1] - asked[0]) / trials, after)


def run(command: Sequence[str], folder: Path) -> str:
    """What a module of Python prints, run as a shell does."""
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def check(what: str, found: int, wanted: int) -> None:
    """Refuse a sweep that did other work than it was to do."""
    if found != wanted:
        raise RuntimeError(f"there were {found} {what}, and there should have been {wanted}")


def measure(variant: str, trials: int, cores: int) -> Measured:
    """One sweep of a variant, in a folder of its own."""
    # Short, for sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="o") as path:
        folder = Path(path)
        if variant in STOCK:
            return stock(STOCK[variant], trials, cores, folder)
        return ours(OURS[variant], trials, cores, folder)


def report(found: Mapping[str, Sequence[Measured]]) -> None:
    """Print the median of each variant, and its ratio to the yardstick."""
    print("\nseconds a trial, median of the rounds (lowest, highest)")
    base = statistics.median(m.all for m in found[YARDSTICK]) if YARDSTICK in found else None
    for variant, measured in found.items():
        seconds = [m.all for m in measured]
        middle = statistics.median(seconds)
        after = [m.after for m in measured if m.after is not None]
        later = f", after the start {statistics.median(after):.3f}" if after else ""
        ratio = (
            f", {YARDSTICK} takes {base / middle:.1f} times as long" if base and variant != YARDSTICK else ""
        )
        print(f"  {variant:16} {middle:.3f} ({min(seconds):.3f}, {max(seconds):.3f}){later}{ratio}")


def _main(argv: Sequence[str]) -> int:
    variants = [*OURS, *STOCK]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=cli.at_least_one, default=60, metavar="N", help="default: 60")
    parser.add_argument("--rounds", type=cli.at_least_one, default=3, metavar="N", help="default: 3")
    parser.add_argument("--cores", type=cli.at_least_one, default=2, metavar="N", help="default: 2")
    parser.add_argument("--variants", nargs="+", choices=variants, default=variants, help="default: all")
    arguments = parser.parse_args(argv)
    found: dict[str, list[Measured]] = {variant: [] for variant in arguments.variants}
    for number in range(arguments.rounds):
        for variant in arguments.variants[:: -1 if number % 2 else 1]:
            load = os.getloadavg()[0]
            found[variant].append(measure(variant, arguments.trials, arguments.cores))
            after = found[variant][-1].after
            later = f", after the start {after:.3f}" if after is not None else ""
            print(
                f"round {number + 1}, {variant}: {found[variant][-1].all:.3f} s a trial{later} "
                f"(load before {load:.1f})",
                flush=True,
            )
    report(found)
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(_main))
