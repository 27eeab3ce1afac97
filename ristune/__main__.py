"""The console script: `ristune COMMAND ...` is `python -m ristune.COMMAND ...`."""

import sys

from ristune.dispatch import Command, dispatch

PURPOSE = "Hyper-parameter search for PyTorch trainings, from the dataset to the report."

COMMANDS = {
    "simulate": Command("ristune.simulate", "draw a dataset"),
    "dataset": Command(
        "ristune.dataset.__main__", "look at a dataset, verify it, convert it from and to others"
    ),
    "train": Command("ristune.train", "run one trial, on one GPU or the CPU"),
    "sweep": Command("ristune.sweep.__main__", "search: many trials on this machine or a cluster"),
    "doctor": Command("ristune.doctor.__main__", "check a training in a few minutes before it takes hours"),
    "evaluate": Command("ristune.evaluate", "measure a checkpoint on a dataset's test split"),
}


def main() -> int:
    """Dispatch on the first word."""
    return dispatch("ristune", PURPOSE, COMMANDS, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
