"""The space of benchmarks/sweep/divergence.py is what its tables say it is, also when it is trained."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks.sweep import planted
from ristune.config import compose
from ristune.simulate import ensure_dataset
from ristune.training.record import Status
from ristune.trial import prepare

CONFIGS = Path(__file__).parents[1] / "benchmarks" / "sweep" / "configs"


def points(count: int) -> list[dict[str, float]]:
    """The middles of equal cells of rate and depth."""
    middles = (np.arange(count) + 0.5) / count
    return [{"rate": 10 ** (3 * u - 4), "depth": d, "mix": 0.3} for u in middles for d in middles]


def test_so_much_of_the_space_diverges_half_of_it_at_once():
    onsets = [planted.onset(values) for values in points(400)]
    assert np.mean([onset > 0 for onset in onsets]) == pytest.approx(planted.REGION, abs=0.002)
    assert onsets.count(1) / sum(onset > 0 for onset in onsets) == pytest.approx(0.49, abs=0.02)
    assert set(onsets) == set(range(7))


@pytest.mark.parametrize("margin", [0.05, 0.2])
def test_the_best_point_lies_outside_at_the_margin(margin):
    sound = [values for values in points(200) if not planted.onset(values)]
    best = min(sound, key=lambda values: planted.error(values, 1000, margin))
    assert planted.effective(best) == pytest.approx(planted.LIMIT - margin, abs=0.01)
    assert planted.error(best, 1000, margin) == pytest.approx(planted.BEST, abs=0.001)


@pytest.mark.parametrize("depth", [0.1, 0.28, 0.9])
def test_a_training_diverges_in_the_epoch_that_is_planted(tmp_path, depth):
    values = {"rate": 0.08, "depth": depth, "mix": 0.5}
    config = compose(
        [
            *("task=planted", "space=planted", f"data.uri={tmp_path / 'data'}", f"data.cache={tmp_path}"),
            *("training.device=cpu", "training.epochs=7"),
            *(f"task.{name}={value}" for name, value in values.items()),
        ],
        [str(CONFIGS)],
    )
    ensure_dataset(config, Console(quiet=True))
    records = list(prepare(config, lambda line: None).run())
    onset = planted.onset(values)
    assert [record.value for record in records[: onset - 1 if onset else 7]] == [
        pytest.approx(planted.error(values, epoch, 0.05)) for epoch in range(1, onset if onset else 8)
    ]
    assert len(records) == (onset or 7)
    assert records[-1].status is (Status.DIVERGED if onset else Status.COMPLETE)
