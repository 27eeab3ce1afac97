"""The seam to whatever makes samples."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ColumnLike(Protocol):
    """What a simulator says of a column; `ristune.data.columns.Column` explains each part, and is one."""

    @property
    def name(self) -> str:
        """The key of the column in a batch."""

    @property
    def dtype(self) -> str:
        """The numpy type string of one element."""

    @property
    def shape(self) -> Sequence[int]:
        """The shape of one row; empty for a scalar."""

    @property
    def unit(self) -> str:
        """The physical unit."""

    @property
    def role(self) -> str:
        """What the column is for."""


class Simulator(Protocol):
    """Draws samples; its parameters hold all that is fixed, the generator all that is random."""

    @property
    def name(self) -> str:
        """What it is called in the manifest."""

    @property
    def version(self) -> str:
        """Changes whenever the same seed gives other samples."""

    @property
    def columns(self) -> Sequence[ColumnLike]:
        """What `draw` draws; exactly one column is the id."""

    def parameters(self) -> Mapping[str, Any]:
        """All that decides what is drawn but the generator, as a JSON object."""

    def tables(self) -> Mapping[str, tuple[Sequence[ColumnLike], Mapping[str, NDArray[Any]]]]:
        """Side tables by name, from the parameters alone: columns, and an array [rows, *shape] for each."""

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, NDArray[Any]]:
        """Draw independent samples.

        Args:
            rows: how many.
            rng: the only source of randomness.

        Returns:
            One array [rows, *shape] for each column, of its dtype.
        """
