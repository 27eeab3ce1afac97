import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ristune.config import Config, compose
from ristune.data.writing.source import Simulated
from ristune.data.writing.writer import write_dataset
from ristune.sweep import search
from ristune.sweep.space import Space
from tests.sweep.actors import Actor, MakeActor
from tests.sweep.bench import SPACE, Bench, MakeBench
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


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    benches: list[Bench] = []

    def make(config: Config, limit: int = 10, space: Space = SPACE) -> Bench:
        benches.append(Bench(config, tmp_path / str(len(benches)), limit, space))
        return benches[-1]

    yield make
    for bench in benches:
        bench.journal.close()


@pytest.fixture
def make_actor(toy: Callable[..., Config], dataset: Path, tmp_path: Path) -> Iterator[MakeActor]:
    """Workers of the toy task, of three epochs unless overridden, each with a folder of its own."""
    count = iter(range(100))

    def make(*overrides: str, folder: Path | None = None) -> Actor:
        config = toy(f"data.uri={dataset}", "training.epochs=3", *overrides)
        return Actor(config, folder or tmp_path / str(next(count)))

    yield make
    # A worker freezes what it finds, for it has a process of its own.
    gc.unfreeze()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BACKOFF", 0.0)


@pytest.fixture
def bench(toy: Callable[..., Config], make_bench: MakeBench) -> Bench:
    return make_bench(toy("sweep.startup_trials=4"))


def _with_space(config: Config, space: dict[str, Any]) -> Config:
    return replace(config, space=space)
