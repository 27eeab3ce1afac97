"""The beamspace network: maps of received power over (u, v, 1 / range) in, a power map, a floor and K out.

It is unrolled: after each stage the sources predicted so far are taken for interference, the snapshots are
matched against what is left (`ristune.nearfield.suppression`), and the next stage corrects the map. One stage
is a correction of the matched filter alone. Each stage learns from its own map: no gradient passes to the one
before, whose map is to be right as well, since it says what is suppressed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ristune.errors import InputError
from ristune.nearfield.covariance import Grid
from ristune.nearfield.suppression import suppressed

# Keeps the logarithm of a map finite; maps are around 1.
LOG_FLOOR = 1e-3
# The same for a predicted map, whose mean is a thousandth.
LOG_SHARE = 1e-4


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


class Stage(nn.Module):
    """Maps over (v, u), range bins as channels, to a change of the power map's logits and of the floor's.

    Args:
        channels: of the maps that enter.
        bins: range bins W.
        width: channels of the hidden layers.
        blocks: residual blocks.
    """

    def __init__(self, channels: int, bins: int, width: int, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.leave = nn.Conv2d(width, bins, 3, padding=1)
        self.floor = nn.Linear(width, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """[B, channels, V, U] to changes of the logits, [B, W V U + 1], and hidden maps, [B, width, V, U]."""
        features = self.blocks(self.enter(maps))
        hidden = nn.functional.gelu(features)
        # Sums of logits are in FP32: half a digit of a large logit would be a fifth of the power.
        power, floor = self.leave(features).float(), self.floor(hidden.mean(dim=(2, 3))).float()
        return torch.cat([power.flatten(1), floor], dim=1), hidden


class BeamspaceNetwork(nn.Module):
    """Corrects the logarithm of the sample covariance's beamspace map, stage by stage.

    Args:
        grid: points of the power map.
        max_sources: the largest K that is told apart.
        width: channels of the hidden layers.
        blocks: residual blocks of each stage.
        stages: corrections, each after the first with the sources of the one before suppressed.

    Raises:
        InputError: if width, blocks or stages is below 1.
    """

    def __init__(self, grid: Grid, max_sources: int, width: int, blocks: int, stages: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("blocks", blocks), ("stages", stages)):
            if value < 1:
                raise InputError(
                    f"task.network.{name}", value, "it must be at least 1", f"set task.network.{name}"
                )
        self._grid = grid
        bins = grid.shape[0]
        # Of the first: the matched filter and the ridge. Of others also the suppressed maps of this stage and
        # the one before, the predicted map, and what is left unexplained.
        channels = [bins + 1] + [4 * bins + 2] * (stages - 1)
        self.stages = nn.ModuleList(Stage(count, bins, width, blocks) for count in channels)
        self.sharpness = nn.Parameter(torch.tensor([2.0]))
        self.count = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, max_sources))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of each stage's power map and, last, its floor; and of the number of sources.

        Args:
            batch: prepared: `sample_map`, [B, G], of snapshots whose covariance has trace N, and `ridge`,
                [B], both divided by N; for more than one stage also `y`, `h`, `codes` and `noise_var`.

        Returns:
            `map`, [B, stages, G + 1], whose softmax is (gamma, floor) of each stage, the last the answer; and
            `count`, [B, max_sources], logits of K = 1, 2 ...
        """
        # Kept, so that it moves once: a copy a step would make the host wait for a GPU.
        self._grid = grid = self._grid.to(batch["sample_map"].device)
        matched = torch.log(batch["sample_map"] + LOG_FLOOR)
        ridge = torch.log10(batch["ridge"] + 1e-6)
        first, *others = self.stages
        change, hidden = first(torch.cat([self._maps(matched / 2), self._plane(ridge)], dim=1))
        # What is sure of itself without any correction: the matched filter, sharpened, and a floor.
        logits = change + nn.functional.pad(self.sharpness * matched, (0, 1), value=2.0)
        found, before = [logits], matched
        for stage in others:
            logits = logits.detach()
            shares = torch.softmax(logits, dim=1)
            left, energy = suppressed(batch, shares, grid)
            now, guess = torch.log(left + LOG_FLOOR), torch.log(shares[:, :-1] + LOG_SHARE)
            maps = [self._maps(values / 2) for values in (matched, before, now, guess)]
            planes = [self._plane(ridge), self._plane(torch.log(energy))]
            change, hidden = stage(torch.cat([*maps, *planes], dim=1))
            logits, before = logits + change, now
            found.append(logits)
        pooled = torch.cat([hidden.mean(dim=(2, 3)), hidden.amax(dim=(2, 3))], dim=1)
        return {"map": torch.stack(found, dim=1), "count": self.count(pooled)}

    def _maps(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *self._grid.shape)

    def _plane(self, values: Tensor) -> Tensor:
        """One number a scene, [B], as a map."""
        return values[:, None, None, None].expand(-1, 1, *self._grid.shape[1:])
