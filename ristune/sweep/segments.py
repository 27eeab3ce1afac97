"""A journal in an object store, where nothing can be appended to: it lies there in segments.

The name of a segment says the generation of its driver, and the number of its first line in the journal. A
driver writes under its own generation alone, and puts its last segment anew, longer, until that is large
enough; then it begins the next one. Where a generation begins, whatever older ones have from that line on is
left out: so a put that arrives late, of a driver that has lost its lease, changes nothing.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from ristune.errors import InputError
from ristune.storage.access import Storage

FOLDER = "journal"
# Small enough to be put with every event, large enough that a long sweep has thousands of them, not millions.
SEGMENT_BYTES = 64 * 2**10
# Segments that are read at once.
READERS = 16


class Segments:
    """The journal of one sweep in a store; one driver appends to it, under a lease, and anybody reads it.

    Args:
        store: the sweep's place.
    """

    def __init__(self, store: Storage) -> None:
        self._store = store
        # Whole segments, and the last one as it was read; all but the last will not change.
        self._known: dict[str, bytes] = {}
        self._generation = 0
        self._first = 0
        self._open = b""

    @property
    def uri(self) -> str:
        """Of the sweep's place."""
        return self._store.uri

    def there(self) -> bool:
        """Whether there is a journal."""
        return bool(self._names())

    def read(self) -> bytes:
        """All whole lines that are there now; what was read before is not sent again.

        Raises:
            InputError: if a segment is missing, or cannot be read.
        """
        names = self._names()
        fresh = [name for name in names if name not in self._known or name == max(self._known)]
        if fresh:
            with ThreadPoolExecutor(min(READERS, len(fresh))) as pool:
                self._known |= dict(zip(fresh, pool.map(self._get, fresh), strict=True))
        return b"".join(self._joined(names))

    def begin(self) -> bytes:
        """All lines that are there, which this driver continues in a generation of its own."""
        lines = self.read()
        self._generation = 1 + max((_generation(name) for name in self._known), default=0)
        self._first, self._open = lines.count(b"\n"), b""
        return lines

    def append(self, lines: bytes) -> None:
        """Put whole lines after those that are there; when it returns the store has them.

        Raises:
            InputError: if the store does not take them before its deadline.
        """
        self._open += lines
        self._store.write_atomic(f"{FOLDER}/{self._generation:06d}-{self._first:09d}.jsonl", self._open)
        if len(self._open) >= SEGMENT_BYTES:
            self._first, self._open = self._first + self._open.count(b"\n"), b""

    def _names(self) -> list[str]:
        return [name for name in self._store.list(FOLDER) if name.endswith(".jsonl")]

    def _get(self, name: str) -> bytes:
        return self._store.read(f"{FOLDER}/{name}")

    def _joined(self, names: list[str]) -> Iterator[bytes]:
        lines: list[bytes] = []
        for name in names:
            first = int(name.partition("-")[2].removesuffix(".jsonl"))
            if first > len(lines):
                rule = f"the lines before its line {first + 1} must be there, and end at line {len(lines)}"
                place = f"{self._store.uri}: {FOLDER}/{name}"
                raise InputError("journal", place, rule, "restore the segments before it from a copy")
            del lines[first:]
            lines += self._known[name].splitlines(keepends=True)
        return iter(lines)


def _generation(name: str) -> int:
    return int(name.partition("-")[0])
