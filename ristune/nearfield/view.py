"""Where sources are looked for, and whether scenes are what a task can find."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ristune.errors import InputError
from ristune.nearfield.covariance import Limits
from ristune.nearfield.geometry import Geometry


@dataclass(frozen=True)
class FieldOfView:
    """Where sources are looked for: bounds of the grid and of every estimate.

    Args:
        azimuth_deg: lower and upper bound, degrees.
        elevation_deg: the same for elevation.
        range_m: the same for range, metres.
    """

    azimuth_deg: Sequence[float]
    elevation_deg: Sequence[float]
    range_m: Sequence[float]

    def limits(self) -> Limits:
        """Bounds by w = 1 / range (1 / metre), v and u."""
        u = (math.sin(math.radians(self.azimuth_deg[0])), math.sin(math.radians(self.azimuth_deg[1])))
        v = (math.sin(math.radians(self.elevation_deg[0])), math.sin(math.radians(self.elevation_deg[1])))
        return (1 / self.range_m[1], 1 / self.range_m[0]), v, u


def check_scenes(
    uri: str, parameters: Mapping[str, Any], geometry: Geometry, view: FieldOfView, max_sources: int
) -> None:
    """Refuse scenes that cannot be found: nothing else would say why.

    Args:
        uri: of the dataset, or what draws the scenes.
        parameters: that they are drawn from.
        geometry: the task's surface.
        view: its field of view.
        max_sources: the largest K that it tells.

    Raises:
        InputError: if the surface is another one, sources lie outside of the view, or are too many.
    """
    stored, wanted = dict(parameters.get("geometry", {})), asdict(geometry)
    if stored != wanted:
        raise InputError(
            "data.uri",
            uri,
            f"its surface must be the task's: the manifest has {stored}, the task {wanted}",
            "give task.geometry those values, or another data.uri to simulate a dataset for this surface",
        )
    for name, bounds in asdict(view).items():
        low, high = parameters["scene"][name]
        if low < bounds[0] or high > bounds[1]:
            raise InputError(
                f"task.field_of_view.{name}",
                list(bounds),
                f"it must hold the sources of {uri}, which lie in [{low}, {high}]",
                "widen it, or give another data.uri to simulate a dataset for it",
            )
    most = int(parameters["scene"]["num_sources"][1])
    if most > max_sources:
        rule = f"it must be at least the K of {uri}, up to {most}"
        raise InputError("task.max_sources", max_sources, rule, f"set task.max_sources={most}")
