"""A user's own files of near-field scenes as a dataset: what `dataset import-npz` runs.

The files are those of `archives`. `NpzImporter` finds out how they are to be read (`inferring`, `reading`) and
looks at every row once (`survey`, `judging`); the `NpzSource` it makes gives shards of rows in random order, in
the columns of the simulator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ristune.errors import InputError
from ristune.nearfield.archives import base_name, open_archives
from ristune.nearfield.channel import PER_SAMPLE
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.judging import (
    LARGEST_HALF,
    LEAST_HALF,
    Verdict,
    judge,
    measured_snr_db,
    scene_bounds,
)
from ristune.nearfield.npz import sha256
from ristune.nearfield.reading import BLOCK, Found, Reader, find
from ristune.nearfield.simulator import CHANNEL_DTYPES, Column, Columns
from ristune.nearfield.splits import (
    DUPLICATES,
    SPLITS,
    Indices,
    distinct,
    repeats,
    share,
    without_repeats,
)
from ristune.nearfield.survey import Survey, phases, survey

# More codebooks than this are no codebooks: every sample then has its own codes.
MOST_CODEBOOKS = 64

Progress = Callable[[int], None]


class Part(Protocol):
    """A shard: its split, its place there, and its rows."""

    split: str
    index: int
    rows: int


# How splits of so many rows, with these columns, are cut into shards.
Cut = Callable[[Mapping[str, int], Columns], Sequence[Part]]


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
                "snr_db": [round(float(snr.min()), 4), round(float(snr.max()), 4)],
            },
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
        columns = {
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
        power = {
            "R": of.power[rows].astype(float),
            "equal": present.astype(float),
            "snapshots": np.abs(of.symbols[rows]) ** 2
            if self.verdict.source_model == "static"
            else np.maximum(of.symbol_power[rows], np.finfo(np.float32).tiny),
        }[self.verdict.power] * present
        phase = of.phase[rows]
        if self.verdict.source_model == "static" and not self.found.coherent:
            phase = np.angle(of.symbols[rows]) * present
        if self.verdict.noise == "snr":
            snr_db = of.snr_label[rows]
            noise = of.received[rows] / (1 + 10 ** (snr_db.astype(float) / 10))
        else:
            snr_db, noise = measured_snr_db(of)[rows], of.noise[rows]
        labels = {name: getattr(of, name)[rows] for name in ("num_sources", "azimuth", "elevation", "range")}
        power = power / power.sum(1, keepdims=True)
        return {**labels, "power": power, "phase": phase, "snr_db": snr_db, "noise_var": noise}


class NpzImporter:
    """Files and how they are to be imported.

    Args:
        files: paths by split; one list under `all` is cut at random by `shares`.
        shares: of train, val and test, for files under `all`.
        geometry: the surface that the files are of.
        channel_dtype: how H is stored: `f2` or `f4`; a channel that float16 does not hold is stored as `f4`.
        relabel: give coherent data coherent labels, whatever R says.
        duplicates: what is done with scenes of one split that are in another: `refuse`, `drop` or `allow`.
        seed: of the order of rows and of the cut.

    Raises:
        InputError: on values out of range, and files that lack arrays or differ in their sizes.
    """

    def __init__(
        self,
        files: Mapping[str, Sequence[str]],
        shares: Sequence[float],
        geometry: Geometry,
        channel_dtype: str,
        relabel: bool,
        duplicates: str,
        seed: int,
    ) -> None:
        if duplicates not in DUPLICATES:
            rule = f"it must be one of {', '.join(DUPLICATES)}"
            raise InputError("importer.duplicates", duplicates, rule, "correct it")
        if channel_dtype not in CHANNEL_DTYPES:
            raise InputError("importer.channel_dtype", channel_dtype, "it must be f2 or f4", "correct it")
        self._paths = [(split, path) for split, paths in files.items() for path in paths]
        if not self._paths or (set(files) != {"all"} and not set(files) <= set(SPLITS)):
            rule = "files of train, val and test are required, or files under all"
            raise InputError("importer.files", dict(files), rule, "name some files")
        archives, sizes = open_archives([path for _, path in self._paths])
        if sizes.elements != geometry.size:
            rule = f"the surface must have the {sizes.elements} elements of H_full"
            raise InputError("task.geometry", f"{geometry.rows} x {geometry.columns}", rule, "correct it")
        self._reader = Reader(archives, sizes, geometry)
        self._shares, self._channel_dtype = shares, channel_dtype
        self._relabel, self._duplicates, self._seed = relabel, duplicates, seed

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return int(self._reader.starts[-1])

    def survey(self, cut: Cut, progress: Progress | None = None) -> NpzSource:
        """Find out how the files are to be read, and look at every row.

        Args:
            cut: makes shards of the rows of each split.
            progress: called with the number of rows after every block.

        Raises:
            InputError: if conventions cannot be told, a row is bad, or splits share scenes.
        """
        reader = self._reader
        found = find(reader, self._seed)
        rows = survey(reader, found, progress)
        verdict = judge(reader, found, rows, self._relabel)
        splits, lines = self._splits(rows)
        books = self._books(rows)
        columns = self._columns(rows, len(books) > 0)
        order = {
            name: np.random.default_rng([self._seed, SPLITS.index(name)]).permutation(of)
            for name, of in splits.items()
        }
        origin = [
            {"file": base_name(path), "split": split, "rows": archive.rows, "sha256": sha256(path)}
            for (split, path), archive in zip(self._paths, reader.archives, strict=True)
        ]
        return NpzSource(
            reader=reader,
            found=found,
            survey=rows,
            verdict=verdict,
            order=order,
            ids=distinct(rows.sample),
            books=books,
            columns=columns,
            origin=origin,
            shards=cut({name: len(of) for name, of in order.items()}, columns),
            lines=(*lines, *verdict.lines),
            seed=self._seed,
        )

    def _splits(self, rows: Survey) -> tuple[Mapping[str, Indices], list[str]]:
        """Rows by split, and what was found of duplicates."""
        splits: Mapping[str, Indices]
        if self._paths[0][0] == "all":
            splits = share(self.rows, self._shares, self._seed)
        else:
            of = np.repeat(
                [SPLITS.index(split) for split, _ in self._paths], [a.rows for a in self._reader.archives]
            )
            splits = {
                name: np.flatnonzero(of == place) for place, name in enumerate(SPLITS) if (of == place).any()
            }
        same, similar = repeats(splits, rows.sample), repeats(splits, rows.scene)
        if self._duplicates == "refuse" and any(same.across.values()):
            raise InputError(
                "duplicates",
                str(same),
                "no scene may be in two splits: a network would be measured on what it was trained on",
                "--drop-duplicates keeps the first of each, in the order train, val, test; --allow-duplicates all",
            )
        lines = [f"warning: the same scene, labels and snapshots: {same}"] if str(same) else []
        if any(count > same.across[name] for name, count in similar.across.items()):
            lines.append(f"warning: the same labels, with other snapshots too: {similar}")
        if self._duplicates == "drop":
            kept = without_repeats(splits, rows.sample)
            dropped = sum(map(len, splits.values())) - sum(map(len, kept.values()))
            splits = kept
            lines = [*lines, f"{dropped} repeated rows dropped"] if dropped else lines
        return splits, lines

    def _books(self, rows: Survey) -> Indices:
        """The first row with each codebook, by digest; none if there are too many."""
        _, first = np.unique(rows.codes, return_index=True)
        return first if len(first) <= MOST_CODEBOOKS else np.empty(0, np.int64)

    def _columns(self, rows: Survey, books: bool) -> Columns:
        sizes = self._reader.sizes
        half = LEAST_HALF <= rows.channel_rms.min() and rows.channel_rms.max() <= LARGEST_HALF
        channel = self._channel_dtype if half else "f4"
        shape = (sizes.snapshots, sizes.elements)
        codes = Column("codebook", "<i4", (), "1", "input")
        if not books:
            codes = Column("code", "|u1" if rows.on_grid.all() else "<f4", shape, "2*pi/256 rad", "input")
        sources = (sizes.sources,)
        return [
            Column("y", "<f4", (sizes.snapshots, sizes.antennas, 2), "1", "input"),
            Column("h", f"<{channel}", (sizes.antennas, sizes.elements, 2), "1", "input"),
            codes,
            Column("snr_db", "<f4", (), "dB", "label"),
            Column("noise_var", "<f4", (), "1", "input"),
            Column("num_sources", "<i4", (), "1", "label"),
            Column("azimuth", "<f4", sources, "rad", "label"),
            Column("elevation", "<f4", sources, "rad", "label"),
            Column("range", "<f4", sources, "m", "label"),
            Column("power", "<f4", sources, "1", "label"),
            Column("phase", "<f4", sources, "rad", "label"),
            Column("scene_id", "<i8", (), "1", "id"),
        ]
