"""A user's own files of near-field scenes as a dataset: what `dataset import-npz` runs.

The files are those of `archives`. `NpzImporter` finds out how they are to be read (`inferring`, `reading`)
and looks at every row once (`survey`, `judging`); the `NpzSource` it makes (`imported`) gives shards of rows
in random order, in the columns of the simulator.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from ristune.errors import InputError
from ristune.nearfield.archives import base_name, open_archives
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.imported import NpzSource, Part, Progress
from ristune.nearfield.judging import LARGEST_HALF, LEAST_HALF, judge, scene_bounds
from ristune.nearfield.npz import sha256
from ristune.nearfield.reading import Reader, find
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
from ristune.nearfield.survey import Survey, survey
from ristune.nearfield.view import FieldOfView

# More codebooks than this are no codebooks: every sample then has its own codes.
MOST_CODEBOOKS = 64


# How splits of so many rows, with these columns, are cut into shards.
Cut = Callable[[Mapping[str, int], Columns], Sequence[Part]]


def wider(view: FieldOfView, bounds: Mapping[str, Sequence[float]]) -> list[str]:
    """Overrides that give the task a field of view that holds all sources; none where it does.

    Args:
        view: the task's.
        bounds: of the sources, by the field of view's names.
    """
    overrides = []
    for name, (low, high) in asdict(view).items():
        # Whole degrees and decimetres: rounded away from the sources.
        steps = 1 if name.endswith("_deg") else 10
        least = math.floor(bounds[name][0] * steps) / steps or bounds[name][0]
        most = math.ceil(bounds[name][1] * steps) / steps
        if bounds[name][0] < low or bounds[name][1] > high:
            overrides.append(f"task.field_of_view.{name}=[{min(least, low):g},{max(most, high):g}]")
    return overrides


class NpzImporter:
    """Files and how they are to be imported.

    Args:
        files: paths by split; one list under `all` is cut at random by `shares`.
        shares: of train, val and test, for files under `all`.
        geometry: the surface that the files are of.
        field_of_view: of the task; what it must be instead is among the source's `hints`.
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
        field_of_view: FieldOfView,
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
        if (geometry.wavefront, geometry.amplitude) != ("exact", "unit"):
            got = f"{geometry.wavefront}, {geometry.amplitude}"
            rule = "labels are made those of exact waves of unit amplitude"
            raise InputError("task.geometry: wavefront, amplitude", got, rule, "set them to exact and unit")
        archives, sizes = open_archives([path for _, path in self._paths])
        if sizes.elements != geometry.size:
            rule = f"the surface must have the {sizes.elements} elements of H_full"
            raise InputError("task.geometry", f"{geometry.rows} x {geometry.columns}", rule, "correct it")
        self._reader = Reader(archives, sizes, geometry)
        self._shares, self._channel_dtype, self._view = shares, channel_dtype, field_of_view
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
            hints=wider(self._view, scene_bounds(rows, np.concatenate([*order.values()]))),
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
                "--drop-duplicates keeps the first of each (train, val, test); --allow-duplicates keeps all",
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
