from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ristune.nearfield.channel import ChannelSampler
from ristune.nearfield.codes import CodeSampler
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.scene import SceneSampler
from ristune.nearfield.simulator import NearFieldSimulator
from ristune.nearfield.task import NearFieldTask
from ristune.nearfield.view import FieldOfView

GEOMETRY = Geometry(12, 12, spacing=0.5, wavelength=0.3, wavefront="exact", amplitude="unit")
CODES = CodeSampler("random", 3, amplitude_jitter=0, dropout=0)
VIEW = FieldOfView([-60, 60], [-30, 30], [2, 10])


def scene_sampler(**changes: Any) -> SceneSampler:
    values: dict[str, Any] = dict(
        azimuth_deg=[-60, 60],
        elevation_deg=[-30, 30],
        range_m=[2, 10],
        num_sources=[1, 5],
        max_correlation=0.3,
        power_spread_db=0.0,
        source_model="iid",
    )
    return SceneSampler(**{**values, **changes})


def simulator(
    scene: SceneSampler | None = None,
    snapshots: int = 16,
    channel_dtype: str = "f2",
    seed: int = 1,
    geometry: Geometry = GEOMETRY,
    codes: CodeSampler = CODES,
    channel_error_db: float | None = None,
    position_jitter: float = 0.0,
    kappa: tuple[float, float] = (0, 2),
    snr_db: tuple[float, float] = (-5, 20),
    antennas: int = 16,
) -> NearFieldSimulator:
    return NearFieldSimulator(
        geometry,
        scene or scene_sampler(),
        ChannelSampler(antennas, kappa, snr_db, channel_error_db),
        codes,
        snapshots,
        position_jitter,
        channel_dtype,
        train=64,
        val=32,
        test=32,
        seed=seed,
    )


class Drawn:
    """What a task needs of a dataset, drawn and never written."""

    uri = "drawn"

    def __init__(self, source: NearFieldSimulator, rows: int = 64, seed: int = 0) -> None:
        self.source = source
        drawn = source.draw(rows, np.random.default_rng(seed))
        self.batch = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in drawn.items()}

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self.source.parameters()

    def rows(self, split: str) -> int:
        return len(self.batch["y"])

    def table(self, name: str) -> Mapping[str, Tensor]:
        _, values = self.source.tables()[name]
        return {k: torch.from_numpy(v) for k, v in values.items()}

    def split(self, name: str, columns: Any, limit: int | None) -> Mapping[str, Tensor]:
        return {column: self.batch[column][:limit] for column in columns}


def make_task(**changes: Any) -> NearFieldTask:
    values: dict[str, Any] = dict(
        geometry=GEOMETRY,
        field_of_view=VIEW,
        grid=[4, 7, 11],
        max_sources=5,
        network={"width": 8, "blocks": 1, "stages": 2},
        loss={"nmse_pred": 1.0, "nmse_blend": 0.5, "count": 0.1},
        beta=0.8,
        beta_jitter=0.0,
        sample={"debias": False, "loading": 0.0},
    )
    torch.manual_seed(0)
    return NearFieldTask(**{**values, **changes})


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    return Drawn(simulator())


@pytest.fixture
def task(drawn: Drawn) -> NearFieldTask:
    made = make_task()
    made.attach(drawn)
    return made
