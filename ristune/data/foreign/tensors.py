"""How Arrow holds tensors: lists of constant length, fixed-size lists, tensor types, opaque bytes."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ristune.data.columns import DTYPES, Column
from ristune.errors import InputError

# Types of elements; the ones that torch or the format lack become the narrowest that holds them all.
HOLDERS = {
    pa.bool_(): "|u1",
    pa.uint8(): "|u1",
    pa.int8(): "|i1",
    pa.int16(): "<i2",
    pa.uint16(): "<i4",
    pa.int32(): "<i4",
    pa.uint32(): "<i8",
    pa.int64(): "<i8",
    pa.uint64(): "<i8",
    pa.float16(): "<f2",
    pa.float32(): "<f4",
    pa.float64(): "<f8",
}
# What the metadata of a field may say of its column.
SAID = ("shape", "dtype", "unit", "role")
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)


def metadata_of(column: Column) -> dict[str, str]:
    """The metadata of an Arrow field by which ristune knows a column again."""
    return {
        "shape": json.dumps(column.shape),
        "dtype": column.dtype,
        "unit": column.unit,
        "role": column.role,
    }


def element_type(kind: Any) -> Any:
    """The type of the elements of a column: that of the innermost list, or of the tensor type."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.value_type
    while isinstance(kind, LISTS):
        kind = kind.value_type
    return kind


def column_of(field: Any, first: Any, where: str) -> Column | None:
    """The column that an Arrow field holds.

    Args:
        field: the Arrow field; metadata of ours is honoured.
        first: an array with at least one value of it.
        where: file and column, as they are to be named in errors.

    Returns:
        The column, of role `input` and unit `1` where nothing says otherwise; nothing where its type or name
        is none that a batch can have.

    Raises:
        InputError: the metadata say what no column is, or the first value holds nulls, lists of several
            lengths, or another shape than the metadata say.
    """
    stored = field.metadata or {}
    opaque = isinstance(field.type, pa.FixedSizeBinaryType) and b"dtype" in stored and b"shape" in stored
    named = field.name.isascii() and field.name.isidentifier()
    if not named or not (opaque or element_type(field.type) in HOLDERS):
        return None
    said = {key: _said_text(stored[key.encode()], where) for key in SAID if key.encode() in stored}
    dtype = said.get("dtype", HOLDERS.get(element_type(field.type), ""))
    if dtype not in DTYPES:
        rule = f"the dtype in the metadata of a field is one of {', '.join(DTYPES)}"
        raise InputError(where, dtype, rule, "correct the metadata of the field")
    shape = _said_shape(said, where) if "shape" in said else elements(first[:1], where).shape[1:]
    column = Column(field.name, dtype, shape, said.get("unit", "1"), said.get("role", "input"))
    to_numpy(first[:1], column, where)
    return column


def to_numpy(values: Any, column: Column, where: str) -> NDArray[Any]:
    """The values of a column.

    Args:
        values: an Arrow array of one value a row.
        column: what it holds.
        where: file and column, as they are to be named in errors.

    Returns:
        An array [rows, *shape] of the column's dtype; it may be a view of `values`.

    Raises:
        InputError: there are nulls, lists of several lengths, or values that do not fit shape or dtype.
    """
    if isinstance(values.type, pa.FixedSizeBinaryType):
        found = _opaque(values, column, where)
    else:
        found = elements(values, where)
    if found.size != len(values) * column.elements:
        rule = f"{column.elements} elements a row are required, for the shape {column.shape}"
        raise InputError(where, found.shape[1:], rule, "correct the metadata of the field, or the data")
    found = found.reshape(len(values), *column.shape)
    if found.dtype == np.dtype(column.dtype):
        return found
    converted = found.astype(column.dtype)
    if not np.array_equal(converted, found, equal_nan=True):
        rule = f"all values must fit dtype {column.dtype}"
        raise InputError(
            where, found.dtype.str, rule, "correct the metadata of the field, or cast the column"
        )
    return converted


def elements(values: Any, where: str) -> NDArray[Any]:
    """The elements of lists of constant length, of any depth.

    Args:
        values: an Arrow array of numbers, of lists of them, or of tensors.
        where: file and column, as they are to be named in errors.

    Returns:
        An array [rows, ...], one dimension for each depth of lists, of the elements' own type.

    Raises:
        InputError: there are nulls, or lists of several lengths.
    """
    if isinstance(values.type, pa.FixedShapeTensorType):
        _refuse_nulls(values.storage, 1, where)
        _refuse_nulls(values.storage.flatten(), values.type.shape, where)
        return np.asarray(values.to_numpy_ndarray())
    shape = [len(values)]
    while isinstance(values.type, LISTS):
        _refuse_nulls(values, shape[1:], where)
        shape.append(_length(values, shape[1:], where))
        values = values.flatten()
    _refuse_nulls(values, shape[1:], where)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def _length(lists: Any, outer: Any, where: str) -> int:
    """The one length of all lists."""
    if isinstance(lists.type, pa.FixedSizeListType):
        return int(lists.type.list_size)
    lengths = np.diff(lists.offsets.to_numpy())
    if not lengths.size:
        return 0
    other = np.flatnonzero(lengths != lengths[0])
    if other.size:
        row = int(other[0]) // int(np.prod(outer, dtype=int))
        found = f"a list of {lengths[other[0]]} in row {row}, of {lengths[0]} in row 0"
        rule = "all lists of a column have one length"
        raise InputError(where, found, rule, "pad them to the longest, with a column for their lengths")
    return int(lengths[0])


def _refuse_nulls(values: Any, outer: Any, where: str) -> None:
    if values.null_count:
        first = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
        row = first // int(np.prod(outer, dtype=int))
        remedy = "fill them in, or leave such rows out"
        raise InputError(
            where, f"{values.null_count} nulls", f"no value may be missing, as in row {row}", remedy
        )


def _opaque(values: Any, column: Column, where: str) -> NDArray[Any]:
    _refuse_nulls(values, (), where)
    width = values.type.byte_width
    if width != column.elements * np.dtype(column.dtype).itemsize:
        rule = f"its metadata say shape {column.shape} of {column.dtype}"
        raise InputError(where, f"{width} bytes", rule, "correct the metadata of the field")
    count, offset = len(values) * column.elements, values.offset * width
    return np.frombuffer(values.buffers()[1], column.dtype, count=count, offset=offset)


def _said_text(stored: bytes, where: str) -> str:
    try:
        return stored.decode()
    except UnicodeDecodeError as error:
        rule = f"{', '.join(SAID)} in the metadata of a field are text in UTF-8"
        raise InputError(where, stored[:40], rule, "correct the metadata of the field") from error


def _said_shape(said: dict[str, str], where: str) -> tuple[int, ...]:
    rule = "the shape in the metadata of a field is a JSON list of integers of at least 1"
    wrong = InputError(where, said["shape"], rule, "correct the metadata of the field")
    try:
        shape = json.loads(said["shape"])
    except (ValueError, RecursionError) as error:
        raise wrong from error
    # Of type int and not bool, which is a subclass of it.
    if not isinstance(shape, list) or not all(type(size) is int and size >= 1 for size in shape):
        raise wrong
    return tuple(shape)
