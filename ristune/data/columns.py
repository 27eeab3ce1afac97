"""What a column is, and which columns the format can hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ristune.errors import InputError

# Little-endian on disk, and every one of them has a torch dtype.
DTYPES = ("|u1", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8")


def check_columns(columns: Sequence["Column"], owner: str) -> None:
    """Refuse columns that the format cannot hold.

    Args:
        columns: the columns of a shard or table.
        owner: what they belong to, as it is to be named in errors.

    Raises:
        InputError: no column at all, a name used twice or that is no identifier, a type that is not in
            `DTYPES`, or a dimension below 1.
    """
    names = [column.name for column in columns]
    if not names:
        raise InputError(f"{owner}: columns", names, "at least one column is required", "declare one")
    for column in columns:
        where = f"{owner}: column {column.name!r}"
        check_identifier(column.name, "a column", where)
        if names.count(column.name) > 1:
            raise InputError(where, names.count(column.name), "a name is used once", "rename one of them")
        if column.dtype not in DTYPES:
            raise InputError(where, column.dtype, f"dtype must be one of {', '.join(DTYPES)}", "convert it")
        if any(size < 1 for size in column.shape):
            raise InputError(where, column.shape, "every dimension is at least 1", "correct the shape")


def check_identifier(name: str, kind: str, where: str) -> None:
    """Refuse a name that is no ASCII identifier: it becomes a part of a path, or a key of other languages.

    Args:
        name: the name.
        kind: what it names, in words.
        where: what it names, as it is to be named in errors.

    Raises:
        InputError: it is none.
    """
    if not (isinstance(name, str) and name.isascii() and name.isidentifier()):
        rule = f"{kind} is named by an ASCII identifier"
        raise InputError(where, name, rule, "use letters, digits and underscores")


def check_table_name(name: str, owner: str) -> None:
    """Refuse a side table's name that is no ASCII identifier: its file is called by it.

    Args:
        name: the name.
        owner: what the table belongs to, as it is to be named in errors.

    Raises:
        InputError: it is none.
    """
    check_identifier(name, "a table", f"{owner}: table {name!r}")


def id_column(columns: Sequence["Column"], owner: str) -> "Column":
    """The one column that names rows.

    Args:
        columns: the columns of a shard.
        owner: what they belong to, as it is to be named in errors.

    Raises:
        InputError: there is not exactly one column of role `id`, or it is no int64 scalar.
    """
    found = [column for column in columns if column.role == "id"]
    if len(found) != 1 or found[0].dtype != "<i8" or found[0].shape != ():
        value = [(column.name, column.dtype, column.shape) for column in found]
        rule = "exactly one column of role 'id' is required, an int64 scalar ('<i8', shape ())"
        raise InputError(
            f"{owner}: columns", value, rule, "give each row a number of its own in such a column"
        )
    return found[0]


@dataclass(frozen=True)
class Column:
    """One column of a shard or table.

    Attributes:
        name: the key of the column in a batch; an ASCII identifier.
        dtype: the numpy type string of one element, one of `DTYPES`.
        shape: the shape of one row; `()` is a scalar.
        unit: the physical unit, `"1"` or `""` where there is none.
        role: what the column is for: `"input"`, `"label"`, `"scalar"`, or `"id"` for the one that names rows.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    unit: str
    role: str

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type of one element as it lies in the file."""
        dtype = np.dtype(self.dtype)
        # Parquet has no integer narrower than 32 bits; only tensors keep theirs, as opaque bytes.
        return np.dtype("<i4") if not self.shape and dtype.kind in "iu" and dtype.itemsize < 4 else dtype

    @property
    def elements(self) -> int:
        """The number of elements in one row."""
        return math.prod(self.shape)

    @property
    def stored_width(self) -> int:
        """The number of bytes of one row in the file."""
        return self.elements * self.stored_dtype.itemsize
