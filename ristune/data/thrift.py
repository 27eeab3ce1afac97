"""The compact protocol of Thrift, in which footers and page headers of Parquet are written."""

# Kinds of values, by the numbers of the protocol.
TRUE, FALSE, BYTE, I16, I32, I64, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 8, 9, 12
# Statistics in a footer lie 7 deep.
DEEPEST = 16


def read_struct(data: memoryview, at: int, depth: int = 0) -> tuple[dict[int, object], int]:
    """Read a struct.

    Args:
        data: the bytes.
        at: where it starts.
        depth: how many structs and lists it lies in.

    Returns:
        Its fields by number, and where it ends.

    Raises:
        IndexError: it does not end.
        ValueError: it holds a kind of value that Parquet does not use there, or is nested without end.
    """
    if depth > DEEPEST:
        raise ValueError(f"structs are nested deeper than {DEEPEST}")
    fields: dict[int, object] = {}
    number = 0
    while data[at]:
        kind, delta = data[at] & 15, data[at] >> 4
        at += 1
        if delta:
            number += delta
        else:
            number, at = _zigzag(data, at)
        if kind in (TRUE, FALSE):
            fields[number] = kind == TRUE
        else:
            fields[number], at = _value(data, at, kind, depth + 1)
    return fields, at + 1


def _value(data: memoryview, at: int, kind: int, depth: int) -> tuple[object, int]:
    if kind in (I16, I32, I64):
        return _zigzag(data, at)
    if kind == BYTE:
        return data[at], at + 1
    if kind == BINARY:
        length, at = _varint(data, at)
        return bytes(data[at : at + length]), at + length
    if kind == LIST:
        return _list(data, at, depth)
    if kind == STRUCT:
        return read_struct(data, at, depth)
    raise ValueError(f"a value is of kind {kind}")


def _list(data: memoryview, at: int, depth: int) -> tuple[list[object], int]:
    if depth > DEEPEST:
        raise ValueError(f"lists are nested deeper than {DEEPEST}")
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    values = []
    for _ in range(size):
        # In a list a truth value takes a byte.
        value, at = _value(data, at, BYTE if kind in (TRUE, FALSE) else kind, depth + 1)
        values.append(value)
    return values, at


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at
    raise ValueError("a number has more than 64 bits")


def _zigzag(data: memoryview, at: int) -> tuple[int, int]:
    raw, at = _varint(data, at)
    return (raw >> 1) ^ -(raw & 1), at
