from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ristune.config import Config, compose
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from tests.toy import ToySimulator

CONFIGS = Path(__file__).parents[1] / "configs"
TOY = ("task=toy", "space=toy", "tracking.mode=disabled", "training.device=cpu")


@pytest.fixture
def toy() -> Callable[..., Config]:
    """The toy task's configuration, with overrides and, on demand, another space."""

    def make(*overrides: str, space: dict[str, Any] | None = None, dirs: Sequence[Path] = ()) -> Config:
        config = compose([*TOY, *overrides], [CONFIGS, *dirs])
        return config if space is None else _with_space(config, space)

    return make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset of the toy task."""
    directory = tmp_path_factory.mktemp("data") / "toy"
    simulator = ToySimulator(train=256, val=64, test=64, seed=7, noise=0.1)
    write_dataset(str(directory), Simulated(simulator, simulator.sizes, simulator.seed))
    return directory


def _with_space(config: Config, space: dict[str, Any]) -> Config:
    return replace(config, space=space)
