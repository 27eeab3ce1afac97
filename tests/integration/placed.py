"""The toy task, which notes the node that it is built on, and takes its time until it is hurried."""

import os
import time
from pathlib import Path

from torch import Tensor

from ristune.preemption import VARIABLE
from tests.toy import ToyTask

# Seconds a batch.
PACE = 0.02


class PlacedTask(ToyTask):
    """Writes into a folder when it was built, and where the trials of that node look for a notice.

    It hurries as soon as the folder has a file `hurry`.
    """

    def __init__(self, places: str, **options: object) -> None:
        super().__init__(**options)
        self.folder = Path(places)
        with (self.folder / "built").open("a") as file:
            file.write(f"{time.time()} {os.environ.get(VARIABLE, '-')}\n")

    def loss(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if not (self.folder / "hurry").exists():
            time.sleep(PACE)
        return super().loss(output, batch)
