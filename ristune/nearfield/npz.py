"""Arrays inside the files of `numpy.savez`, a few rows at a time: they may be larger than memory.

`np.load(..., mmap_mode=)` does nothing for such a file. Its members are stored as they are, so a row is read
from its own place; pages that were read are not counted against this process, as a map's are.
"""

import hashlib
import os
import struct
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ristune.errors import InputError

SUFFIX = ".npy"
# A zip's own header before a member: 30 bytes, whose last two fields are the lengths of what follows.
LOCAL_HEADER = 30


@dataclass(frozen=True)
class Member:
    """One array of a file; its first dimension are the rows.

    Attributes:
        file: path of the file.
        name: name of the array.
        offset: of its first element in the file, bytes.
        dtype: numpy type string.
        shape: with the rows.
    """

    file: str
    name: str
    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read rows; neighbours are read at once.

        Args:
            rows: ascending, [n].

        Returns:
            [n, *shape of a row], as stored.

        Raises:
            InputError: if the file ends before them.
        """
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        flat = out.reshape(-1).view(np.uint8).data
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        with open(self.file, "rb", buffering=0) as file:
            first = 0
            for end in ends:
                piece = flat[first * self.width : end * self.width]
                self._fill(file.fileno(), piece, self.offset + int(rows[first]) * self.width)
                first = end
        return out

    def _fill(self, descriptor: int, piece: memoryview, offset: int) -> None:
        # One call reads at most 2 GiB.
        while len(piece):
            count = os.preadv(descriptor, [piece], offset)
            if not count:
                raise InputError(
                    self.file, self.name, "the file must hold the whole array", "copy the file again"
                )
            piece, offset = piece[count:], offset + count


def open_npz(path: str, wanted: Collection[str]) -> dict[str, Member]:
    """Those of the wanted arrays that the file has, by name; nothing but headers is read.

    Raises:
        InputError: if it is no such file, or an array is compressed, in Fortran order, or not of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            members = {info.filename.removesuffix(SUFFIX): info for info in archive.infolist()}
            return {name: _member(path, file, info) for name, info in members.items() if name in wanted}
    except (OSError, zipfile.BadZipFile, struct.error) as error:
        raise InputError(
            "npz",
            path,
            f"it must be a file that numpy.savez wrote ({error})",
            "check the path, or copy it again",
        ) from error


def sha256(path: str) -> str:
    """The hash of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(path: str, file: IO[bytes], info: zipfile.ZipInfo) -> Member:
    name = info.filename.removesuffix(SUFFIX)
    if info.compress_type != zipfile.ZIP_STORED:
        stem = Path(path).stem
        raise InputError(
            path,
            name,
            "arrays must be stored, not compressed, to be read by rows (numpy.savez, not savez_compressed)",
            "pack it anew, which needs no memory: "
            f"unzip {path} -d {stem} && cd {stem} && zip -0 ../{stem}-stored.npz *.npy",
        )
    file.seek(info.header_offset)
    lengths = struct.unpack("<HH", file.read(LOCAL_HEADER)[-4:])
    file.seek(info.header_offset + LOCAL_HEADER + sum(lengths))
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        rule = f"it must be an array as numpy writes it ({error})"
        raise InputError(path, name, rule, "write the file again") from error
    if dtype.kind not in "fiu" or (fortran and len(shape) > 1) or not shape:
        raise InputError(
            path,
            f"{name}: {dtype.str} {list(shape)}{' in Fortran order' if fortran else ''}",
            "an array must be of real numbers, rows first, in C order",
            "write it with numpy.ascontiguousarray, complex numbers with re and im as a last axis",
        )
    return Member(path, name, file.tell(), dtype.str, tuple(shape))
