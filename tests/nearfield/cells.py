"""Scenes as estimators are given them, with the truth beside them."""

import numpy as np
import torch

from ristune.nearfield.codes import code_values
from ristune.nearfield.likelihood import Observation
from ristune.nearfield.scene import true_points
from tests.nearfield.conftest import GEOMETRY, scene_sampler, simulator


class Cell:
    """Scenes of one number of sources and one SNR."""

    def __init__(self, sources, snr_db, scenes=24, seed=0, geometry=GEOMETRY):
        source = simulator(
            scene_sampler(num_sources=[sources, sources]),
            channel_dtype="f4",
            geometry=geometry,
            kappa=(3, 3),
            snr_db=(snr_db, snr_db),
        )
        drawn, symbols = source.draw_known(scenes, np.random.default_rng(seed))
        self.batch = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in drawn.items()}
        self.symbols = torch.from_numpy(symbols)
        self.data = Observation(
            torch.view_as_complex(self.batch["y"]),
            torch.view_as_complex(self.batch["h"]),
            torch.from_numpy(code_values(source.codebook)).expand(scenes, -1, -1),
            self.batch["noise_var"],
        )
        self.truth = true_points(self.batch)
        self.counts = self.batch["num_sources"]
