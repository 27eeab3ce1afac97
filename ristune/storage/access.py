"""Where datasets lie: the one interface to files, and the URIs that name them."""

from pathlib import Path
from types import TracebackType
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ristune.errors import InputError
from ristune.storage.local import LocalStorage
from ristune.storage.location import SETTINGS, parse_location, redact
from ristune.storage.objects import ObjectStorage


class Reader(Protocol):
    """A file held open, to be read by ranges; threads may share it. Use it as a context manager.

    Attributes:
        size: its bytes.
        request_bytes: how many are best read at once.
    """

    size: int
    request_bytes: int

    def __enter__(self) -> "Reader":
        """Itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Close it."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset` on, by one request where the file is remote.

        Nothing but a hash tells whether a store sent the bytes it holds: see `fetch.fetch`.

        Args:
            offset: of the first byte.
            buffer: writable, one byte an item; its content is undefined after an error.

        Raises:
            InputError: the file is shorter, or cannot be read before the deadline.
        """

    def close(self) -> None:
        """Let the file go; no thread may be reading. Closing again is no error."""


class Storage(Protocol):
    """A tree of files; paths are relative to its root, parts joined by `/`, and `""` is the root.

    A remote tree that refuses, is unreachable, or still fails at its deadline raises InputError.
    """

    @property
    def uri(self) -> str:
        """The root, as errors name it and as `open_storage` takes it; it holds no secret."""

    def open(self, path: str) -> Reader:
        """A file held open; a remote one is asked for its size once, and never again.

        Raises:
            InputError: there is no such file, or it may not be read.
        """

    def size(self, path: str) -> int:
        """The bytes of a file.

        Raises:
            InputError: there is no such file, or it may not be read.
        """

    def read(self, path: str) -> bytes:
        """The whole file.

        Raises:
            InputError: there is no such file, or it may not be read.
        """

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        """Write or replace a file: a reader sees the old one or the new one whole, also after a crash.

        Raises:
            InputError: it cannot be written, for want of space or of permission; nothing of it is left.
        """

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory."""

    def list(self, path: str) -> tuple[str, ...]:
        """The sorted names right below a directory but `leftovers`; none if it is not there."""

    def modified(self, path: str) -> dict[str, float]:
        """When each file right below a directory was last written, Unix seconds by the clock of the tree.

        That of a store may be known to the second only, and is no clock of this machine.
        """

    def leftovers(self, path: str) -> tuple[str, ...]:
        """The sorted names, right below a directory, of files that were never written whole; see `list`."""

    def remove_tree(self, path: str) -> None:
        """Remove a file, or a directory and all below it; nothing there is no error."""

    @property
    def directory(self) -> Path | None:
        """The root as a local directory; None where it is none."""

    def free_bytes(self) -> int | None:
        """Free space on the disk, also where the root does not exist yet; None where nobody knows."""

    def remove_temporaries(self) -> None:
        """Remove what writers that were killed have left half written; nobody else may be writing."""

    def ensure_writable(self) -> None:
        """Make the root if need be and write to it once.

        Raises:
            InputError: that is not possible.
        """


def open_storage(uri: str, name: str = "uri") -> Storage:
    """The storage behind a URI; it need not exist yet, and nothing is sent to it here.

    Args:
        uri: a plain path, `file://` and an absolute path, or `s3://` or `gs://`, bucket and prefix, with
            `endpoint`, `region`, `anonymous` and `deadline` after `?`.
        name: where the URI came from, as it is to be named in errors.

    Raises:
        InputError: the URI is empty, of no known kind, or malformed.
    """
    if not uri:
        raise InputError(name, uri, "a directory is required", "give its path")
    if "://" not in uri:
        return LocalStorage(Path(uri).expanduser().absolute())
    scheme = uri.partition("://")[0]
    if scheme in SETTINGS:
        return ObjectStorage(parse_location(uri, name))
    if scheme != "file":
        rule = "it is a plain path, file:///path, s3://bucket/prefix or gs://bucket/prefix"
        raise InputError(name, redact(uri), rule, "copy the dataset to one of these and give that")
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path:
        rule = "file:// is followed by an absolute path"
        raise InputError(name, redact(uri), rule, "write file:///path, or the plain path")
    return LocalStorage(Path(unquote(parts.path)))
