"""The near-field simulator: scenes, channels and snapshots as the columns of a dataset."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ristune.errors import InputError
from ristune.nearfield.channel import ChannelSampler, complex_normal, receive
from ristune.nearfield.codes import CodeSampler, code_values
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.scene import Scenes, SceneSampler, source_steering

CODES_STREAM, POSITIONS_STREAM = 0x434F4445, 0x504F534E
CHANNEL_DTYPES = ("f2", "f4")


@dataclass(frozen=True)
class Column:
    """One column of a sample: key in a batch, numpy type string, shape of a row, unit, role."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    unit: str
    role: str


Columns = Sequence[Column]


class NearFieldSimulator:
    """Draws scenes; the labels are parameters, never covariances.

    Args:
        geometry: the surface.
        scene: distribution of the sources.
        channel: distribution of channels and SNR.
        codes: distribution of the codes; one codebook is shared by the dataset.
        snapshots: L.
        position_jitter: standard deviation of the elements' places along y and z from those that are known,
            metres, the same for the whole dataset.
        channel_dtype: how H is stored: `f2` (an NMSE of -74 dB, half the bytes) or `f4`.
        train: scenes of the training split; so are `val` and `test`.
        val: scenes of the validation split.
        test: scenes of the test split.
        seed: of the whole dataset.
    """

    name = "nearfield"
    version = "1"

    def __init__(
        self,
        geometry: Geometry,
        scene: SceneSampler,
        channel: ChannelSampler,
        codes: CodeSampler,
        snapshots: int,
        position_jitter: float,
        channel_dtype: str,
        train: int,
        val: int,
        test: int,
        seed: int,
    ) -> None:
        if snapshots < 1:
            raise InputError(
                "simulator.snapshots", snapshots, "it must be at least 1", "set simulator.snapshots"
            )
        if channel_dtype not in CHANNEL_DTYPES:
            raise InputError(
                "simulator.channel_dtype", channel_dtype, "it must be f2 or f4", "set simulator.channel_dtype"
            )
        if not 0 <= position_jitter < geometry.wavelength:
            raise InputError(
                "simulator.position_jitter",
                position_jitter,
                "it must be at least 0 and below a wavelength",
                "set simulator.position_jitter",
            )
        self.geometry = geometry
        self.scene = scene
        self.channel = channel
        self.snapshots = snapshots
        self.channel_dtype = channel_dtype
        self.sizes = {"train": train, "val": val, "test": test}
        self.seed = seed
        self.position_jitter = position_jitter
        self._codes = codes
        # Codebook and surface belong to the dataset, not to a split: streams of their own.
        rng = np.random.default_rng([seed, CODES_STREAM])
        self.codebook = codes.draw(snapshots, geometry.rows, geometry.columns, rng)
        rng = np.random.default_rng([seed, POSITIONS_STREAM])
        moved = torch.from_numpy(rng.standard_normal((geometry.size, 2), dtype=np.float32))
        self._elements = geometry.elements()
        self._elements[:, 1:] += position_jitter * moved

    @property
    def columns(self) -> Columns:
        """Columns of a sample."""
        antennas, size, sources = self.channel.antennas, self.geometry.size, self.scene.max_sources
        return [
            Column("y", "<f4", (self.snapshots, antennas, 2), "1", "input"),
            Column("h", f"<{self.channel_dtype}", (antennas, size, 2), "1", "input"),
            Column("codebook", "<i4", (), "1", "input"),
            Column("snr_db", "<f4", (), "dB", "label"),
            Column("noise_var", "<f4", (), "1", "input"),
            Column("kappa", "<f4", (), "1", "label"),
            Column("num_sources", "<i4", (), "1", "label"),
            Column("azimuth", "<f4", (sources,), "rad", "label"),
            Column("elevation", "<f4", (sources,), "rad", "label"),
            Column("range", "<f4", (sources,), "m", "label"),
            Column("power", "<f4", (sources,), "1", "label"),
            Column("phase", "<f4", (sources,), "rad", "label"),
            Column("scene_id", "<i8", (), "1", "id"),
        ]

    def parameters(self) -> dict[str, Any]:
        """What the dataset was drawn from, plain JSON values."""
        return {
            "geometry": asdict(self.geometry),
            "scene": _plain(asdict(self.scene)),
            "channel": _plain(asdict(self.channel)),
            "codes": asdict(self._codes),
            "snapshots": self.snapshots,
            "position_jitter": self.position_jitter,
            "channel_dtype": self.channel_dtype,
        }

    def tables(self) -> Mapping[str, tuple[Columns, Mapping[str, np.ndarray]]]:
        """The codebooks: a row each, phase indices of 2 pi / 256, and gains unless all are 1."""
        units = {"phase": "2*pi/256 rad", "gain": "1"}
        columns = [
            Column(name, values.dtype.str, values.shape, units[name], "input")
            for name, values in self.codebook.items()
        ]
        return {"codebooks": (columns, {name: values[None] for name, values in self.codebook.items()})}

    def draw(self, rows: int, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        """Draw scenes.

        Args:
            rows: how many.
            rng: the only source of randomness.

        Returns:
            An array [rows, *shape] for each of `columns`.
        """
        return self.draw_known(rows, rng)[0]

    def draw_known(self, rows: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draw scenes, and tell the symbols that no column holds: bounds are conditional on them.

        Args:
            rows: how many.
            rng: the only source of randomness.

        Returns:
            As `draw`; and the symbols with the sources' amplitude, [rows, L, K], complex64.
        """
        scenes = self.scene.draw(rows, self.geometry, rng)
        kappa, channel = self.channel.draw(rows, self.geometry.rows, self.geometry.columns, rng)
        snr_db = rng.uniform(self.channel.snr_db[0], self.channel.snr_db[1], rows)
        symbols = self._symbols(scenes, rng)
        azimuth, elevation = torch.from_numpy(scenes.azimuth), torch.from_numpy(scenes.elevation)
        distance = torch.from_numpy(scenes.range)
        responses = source_steering(azimuth, elevation, distance, self.geometry, self._elements)
        field = symbols @ responses.numpy().transpose(0, 2, 1)
        y, noise_var = receive(field, channel, code_values(self.codebook), snr_db, rng)
        block = {
            "y": _parts(y, "<f4"),
            "h": _parts(self.channel.known(channel, rng), self.channel_dtype),
            "codebook": np.zeros(rows, np.int32),
            "snr_db": snr_db.astype(np.float32),
            "noise_var": noise_var,
            "kappa": kappa.astype(np.float32),
            **vars(scenes),
        }
        told_by = ("azimuth", "elevation", "range", "power", "snr_db", "y")
        return {**block, "scene_id": identities(*(block[name] for name in told_by))}, symbols

    def _symbols(self, scenes: Scenes, rng: np.random.Generator) -> np.ndarray:
        """Symbols with the sources' amplitude, [B, L, K], complex64."""
        shape = (len(scenes.power), self.snapshots, scenes.power.shape[1])
        if self.scene.source_model == "iid":
            symbols = complex_normal(shape, rng)
        else:
            symbols = np.broadcast_to(np.exp(1j * scenes.phase)[:, None], shape).astype(np.complex64)
        return np.asarray(symbols * np.sqrt(scenes.power)[:, None])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sequences as lists: how JSON will give them back."""
    return {
        k: list(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for k, v in values.items()
    }


def _parts(values: np.ndarray, dtype: str) -> np.ndarray:
    """Complex numbers with real and imaginary part as a last axis."""
    return np.stack([values.real, values.imag], axis=-1).astype(dtype)


def identities(*columns: np.ndarray) -> np.ndarray:
    """A 62-bit digest of each row's own content: the same scene in two places has the same id.

    Args:
        columns: what a row is told by, [B, ...] each.

    Returns:
        [B], int64.
    """
    digests = (
        hashlib.blake2b(b"".join(part.tobytes() for part in row), digest_size=8).digest()
        for row in zip(*columns, strict=True)
    )
    return np.array([int.from_bytes(digest, "little") >> 2 for digest in digests], dtype=np.int64)
