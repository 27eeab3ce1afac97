"""The beamspace network: maps of received power over (u, v, 1 / range) in, a power map and a floor out."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ristune.errors import InputError

LOG_FLOOR = 1e-3


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions over (v, u) beside the identity, gated by one learned scalar."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.gate = nn.Parameter(torch.tensor([0.5]))

    def forward(self, features: Tensor) -> Tensor:
        """[B, width, V, U] to the same shape."""
        hidden = self.first(nn.functional.gelu(features))
        change: Tensor = self.second(nn.functional.gelu(hidden))
        return features + self.gate * change


class BeamspaceNetwork(nn.Module):
    """Corrects the logarithm of the sample covariance's beamspace map, range bins as channels.

    Args:
        grid_shape: (W, V, U) of the grid.
        width: channels of the hidden layers.
        blocks: residual blocks.

    Raises:
        InputError: if width or blocks is below 1.
    """

    def __init__(self, grid_shape: tuple[int, int, int], width: int, blocks: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks)):
            if value < 1:
                raise InputError(
                    f"task.network.{name}", value, "it must be at least 1", f"set task.network.{name}"
                )
        self.grid_shape = grid_shape
        self.enter = nn.Conv2d(grid_shape[0] + 1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.leave = nn.Conv2d(width, grid_shape[0], 3, padding=1)
        self.floor = nn.Linear(width, 1)
        self.sharpness = nn.Parameter(torch.tensor([2.0]))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits of the power map and, last, of the floor.

        Args:
            batch: `sample_map`, [B, G]: the map of a covariance of trace N, divided by N; `ridge`, [B].

        Returns:
            [B, G + 1]; their softmax is (gamma, floor).
        """
        log_map = torch.log(batch["sample_map"] + LOG_FLOOR).reshape(-1, *self.grid_shape)
        log_ridge = torch.log10(batch["ridge"] + 1e-6)[:, None, None, None].expand(
            -1, 1, *self.grid_shape[1:]
        )
        features = self.blocks(self.enter(torch.cat([log_map / 2, log_ridge], dim=1)))
        # The sum is in FP32: half a digit of a large logit would be a fifth of the power.
        logits = self.leave(features).float() + self.sharpness * log_map
        floor = self.floor(nn.functional.gelu(features.mean(dim=(2, 3)))).float() + 2
        return torch.cat([logits.flatten(1), floor], dim=1)
