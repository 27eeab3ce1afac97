"""Can the network learn at all: overfit a few scenes, and print the floor of its own grid beside it.

python -m benchmarks.overfit [--scenes 512] [--epochs 60] [PATH=VALUE ...]
"""

import argparse

import torch

from benchmarks.near_field import best_map
from ristune.config import compose
from ristune.nearfield.covariance import nmse
from ristune.nearfield.loss import moments_of
from ristune.nearfield.task import NearFieldTask
from ristune.trial import prepare


def main() -> None:
    """Print training NMSE every ten epochs, and the floor of the grid on the same scenes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args()
    limits = [f"data.train_limit={arguments.scenes}", f"training.epochs={arguments.epochs}"]
    trial = prepare(compose([*limits, "data.val_limit=256", *arguments.overrides]), print)
    seconds = 0.0
    for record in trial.run():
        seconds += record.seconds
        if record.epoch % 10 == 0 or record.epoch == 1:
            train, val = record.train["nmse_pred"], record.val["nmse_pred"]
            print(
                f"epoch {record.epoch:>3}  training NMSE {train:.4f}  validation {val:.4f}  {seconds:5.0f} s"
            )
    task = trial.task
    assert isinstance(task, NearFieldTask)
    floors = []
    for batch in trial.train.epoch(0):
        prepared = task.prepare(batch)
        best = best_map(task.grid, prepared["factor"])
        floors.append(nmse(moments_of(best, task.grid, prepared), 1.0))
    print(f"floor of the {task.grid.shape} grid on the same scenes: {torch.cat(floors).mean().item():.4f}")


if __name__ == "__main__":
    main()
