"""Scenes as estimators are given them, with the truth beside them."""

import numpy as np
import torch

from ristune.nearfield.channel import ChannelSampler
from ristune.nearfield.codes import code_values
from ristune.nearfield.likelihood import Observation
from ristune.nearfield.scene import true_points
from ristune.nearfield.simulator import NearFieldSimulator
from tests.nearfield.conftest import CODES, GEOMETRY, scene_sampler


class Cell:
    """Scenes of one number of sources and one SNR."""

    def __init__(self, sources, snr_db, scenes=24, seed=0, geometry=GEOMETRY):
        simulator = NearFieldSimulator(
            geometry,
            scene_sampler(num_sources=[sources, sources]),
            ChannelSampler(16, [3, 3], [snr_db, snr_db], None),
            CODES,
            snapshots=16,
            position_jitter=0,
            channel_dtype="f4",
            train=1,
            val=1,
            test=1,
            seed=1,
        )
        drawn, symbols = simulator.draw_known(scenes, np.random.default_rng(seed))
        self.batch = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in drawn.items()}
        self.symbols = torch.from_numpy(symbols)
        self.data = Observation(
            torch.view_as_complex(self.batch["y"]),
            torch.view_as_complex(self.batch["h"]),
            torch.from_numpy(code_values(simulator.codebook)).expand(scenes, -1, -1),
            self.batch["noise_var"],
        )
        self.truth = true_points(self.batch)
        self.counts = self.batch["num_sources"]
