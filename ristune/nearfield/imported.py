"""Rows of imported files as shards of a dataset, in the columns of the simulator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ristune.nearfield.codes import PER_SAMPLE
from ristune.nearfield.judging import Verdict, measured_snr_db, scene_bounds
from ristune.nearfield.reading import BLOCK, Found, Reader
from ristune.nearfield.simulator import Column, Columns
from ristune.nearfield.splits import Indices
from ristune.nearfield.survey import Survey, phases

Progress = Callable[[int], None]


class Part(Protocol):
    """A shard: its split, its place there, and its rows."""

    @property
    def split(self) -> str:
        """`train`, `val` or `test`."""

    @property
    def index(self) -> int:
        """Its place in the split, from 0."""

    @property
    def rows(self) -> int:
        """How many."""


@dataclass(frozen=True)
class NpzSource:
    """Rows of files as shards; made by `NpzImporter.survey`.

    Attributes:
        reader: the files.
        found: how they are read.
        survey: of every row.
        verdict: of all rows.
        order: rows of all files by split, in the order of the dataset.
        ids: of every row, [n], int64.
        books: a row for each codebook; empty where every sample has its own codes.
        columns: of a sample.
        origin: name, split, rows and hash of each file.
        shards: what is to be written.
        lines: what there is to say of it.
        hints: overrides that a training on it needs.
        seed: of the order.
    """

    reader: Reader
    found: Found
    survey: Survey
    verdict: Verdict
    order: Mapping[str, Indices]
    ids: Indices
    books: Indices
    columns: Columns
    origin: Sequence[Mapping[str, Any]]
    shards: Sequence[Part]
    lines: Sequence[str]
    hints: Sequence[str]
    seed: int

    name = "nearfield"
    version = "npz 1"

    def parameters(self) -> dict[str, Any]:
        """What the task asks of a dataset, where the files came from and how they were read."""
        sizes, rows = self.reader.sizes, np.concatenate([*self.order.values()])
        snr = self._labels(rows)["snr_db"]
        return {
            "geometry": asdict(self.reader.geometry),
            "scene": {**scene_bounds(self.survey, rows), "source_model": self.verdict.source_model},
            "channel": {
                "antennas": sizes.antennas,
                "channel_error_db": None,
                "snr_db": [round(float(snr.min()), 4), round(float(snr.max()), 4)],
            },
            "position_jitter": 0.0,
            "codes": {"family": "imported" if len(self.books) else PER_SAMPLE},
            "snapshots": sizes.snapshots,
            "channel_dtype": next(each.dtype for each in self.columns if each.name == "h")[1:],
            "convention": {**self.found.convention.describe(), "snapshots": str(self.found.link)},
            "covariance": self.verdict.trace,
            "power": self.verdict.power,
            "noise_var": self.verdict.noise,
            "coherent_data": self.verdict.measured_coherent,
            "origin": [dict(each) for each in self.origin],
        }

    def tables(self) -> Mapping[str, tuple[Columns, Mapping[str, NDArray[Any]]]]:
        """The codebooks, if there are."""
        if not len(self.books):
            return {}
        values = self._codes(self.books)
        column = Column("phase", values.dtype.str, values.shape[1:], "2*pi/256 rad", "input")
        return {"codebooks": ([column], {"phase": values})}

    def parts(self) -> Sequence[Part]:
        """Every shard of every split, in order."""
        return self.shards

    def arrays(self, part: Part, progress: Progress | None = None) -> Mapping[str, NDArray[Any]]:
        """All rows of a shard, a block of rows in memory beside them at a time.

        Args:
            part: one of `parts`.
            progress: called with the number of rows after every block.

        Returns:
            An array [rows, *shape] for each of `columns`.
        """
        first = sum(each.rows for each in self.shards if each.split == part.split and each.index < part.index)
        rows = self.order[part.split][first : first + part.rows]
        arrays = {each.name: np.empty((part.rows, *each.shape), each.dtype) for each in self.columns}
        # In the order of the files, so that reading goes forward only.
        places = np.argsort(rows, kind="stable")
        for start in range(0, len(places), BLOCK):
            into = places[start : start + BLOCK]
            for name, values in self._block(rows[into]).items():
                arrays[name][into] = values
            if progress is not None:
                progress(len(into))
        return arrays

    def _block(self, rows: Indices) -> Mapping[str, NDArray[Any]]:
        y, h, codes = self.reader.snapshots(rows, self.found)
        columns: dict[str, NDArray[Any]] = {
            "y": y.numpy().view(np.float32).reshape(*y.shape, 2),
            "h": h.numpy().view(np.float32).reshape(*h.shape, 2),
            "scene_id": self.ids[rows],
            **self._labels(rows),
        }
        if not len(self.books):
            return {**columns, "code": phases(codes)[0]}
        known = self.survey.codes[self.books]
        return {**columns, "codebook": np.searchsorted(known, self.survey.codes[rows])}

    def _codes(self, rows: Indices) -> NDArray[Any]:
        parts = [phases(self.reader.snapshots(row[None], self.found)[2])[0] for row in np.sort(rows)]
        values = np.concatenate(parts)[np.argsort(np.argsort(rows))]
        return values.astype(np.uint8) if self.survey.on_grid.all() else values

    def _labels(self, rows: Indices) -> dict[str, NDArray[Any]]:
        of = self.survey
        present = of.range[rows] > 0
        static = self.verdict.source_model == "static"
        measured = np.abs(of.symbols[rows]) ** 2 if static else of.symbol_power[rows]
        by_source = {"R": of.power[rows], "equal": present, "snapshots": measured}[self.verdict.power]
        power: NDArray[np.float64] = np.where(present, by_source, 0).astype(float)
        phase: NDArray[np.float32] = of.phase[rows]
        if static and not self.found.coherent:
            phase = (np.angle(of.symbols[rows]) * present).astype(np.float32)
        if self.verdict.noise == "snr":
            snr_db = of.snr_label[rows].astype(float)
            noise = of.received[rows] / (1 + 10 ** (snr_db / 10))
        else:
            snr_db, noise = measured_snr_db(of)[rows], of.noise[rows]
        labels = {name: getattr(of, name)[rows] for name in ("num_sources", "azimuth", "elevation", "range")}
        power = power / power.sum(1, keepdims=True)
        return {**labels, "power": power, "phase": phase, "snr_db": snr_db, "noise_var": noise}
