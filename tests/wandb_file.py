"""What a file of W&B's holds: a log in LevelDB's format of records in its own protocol, checksums checked."""

import struct
import zlib
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> list[Any]:
    """All records, first to last; a file that is cut off anywhere, or damaged, is an error."""
    data = path.read_bytes()
    assert data[:4] == b":W&B", "no file of W&B's"
    found, parts = [], b""
    at = FILE_HEADER
    while at < len(data):
        if BLOCK - at % BLOCK < CHUNK_HEADER:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        chunk = data[at + CHUNK_HEADER : at + CHUNK_HEADER + length]
        assert len(chunk) == length and checksum == zlib.crc32(bytes([kind]) + chunk), "damaged"
        parts += chunk
        if kind in (FULL, LAST):
            found.append(Record.FromString(parts))
            parts = b""
        at += CHUNK_HEADER + length
    assert not parts, "cut off"
    return found
