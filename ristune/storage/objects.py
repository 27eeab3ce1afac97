"""Datasets in object stores: the interface of `storage` on S3 and Google Cloud Storage."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pyarrow import NativeFile
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from ristune.storage.connection import Connection, missing_bucket
from ristune.storage.local import too_short
from ristune.storage.location import Location
from ristune.storage.retry import Transient

# One request: large enough that its cost vanishes, small enough to hash while others arrive.
RANGE_BYTES = 16 * 2**20
# What is written and removed to find out whether a place may be written to.
PROBE = ".probe.tmp"


class ObjectReader:
    """An object held open: one HEAD, then one GET a range; threads may share it.

    Args:
        connection: to the place it is in.
        path: where it is there.
    """

    request_bytes = RANGE_BYTES

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()
        self._opened: tuple[FileSystem, NativeFile] | None = None
        self.size: int = connection.run(path, lambda filesystem: self._handle(filesystem).size())

    def __enter__(self) -> "ObjectReader":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer; see `Reader.read_into`."""
        if offset + len(buffer) > self.size:
            name = self._connection.location.name(self._path)
            raise too_short(name, offset, len(buffer), max(0, self.size - offset))
        if len(buffer) == 0:
            return

        def read(filesystem: FileSystem) -> None:
            got = self._handle(filesystem).get_stream(offset, len(buffer)).readinto(buffer)
            if got != len(buffer):
                raise Transient(f"{got} of {len(buffer)} bytes")

        self._connection.run(self._path, read)

    def close(self) -> None:
        """Let the handle go; see `Reader.close`."""
        with self._lock:
            self._opened = None

    def _handle(self, filesystem: FileSystem) -> NativeFile:
        """The object as opened on this filesystem: anew where credentials have been renewed."""
        with self._lock:
            if self._opened is None or self._opened[0] is not filesystem:
                key = self._connection.location.key(self._path)
                self._opened = (filesystem, filesystem.open_input_file(key))
            return self._opened[1]


@dataclass(frozen=True)
class ObjectStorage:
    """A prefix of a bucket.

    Attributes:
        location: where it is.
    """

    location: Location

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.location)

    def __reduce__(self) -> tuple[type["ObjectStorage"], tuple[Location]]:
        """Pickle without the connection: another process makes its own."""
        return (ObjectStorage, (self.location,))

    @property
    def uri(self) -> str:
        """The URI of the prefix, with what is not the default after `?`."""
        return self.location.uri

    def open(self, path: str) -> ObjectReader:
        """An object to be read by ranges; see `Storage.open`."""
        return ObjectReader(self._connection, path)

    def size(self, path: str) -> int:
        """Its bytes; see `Storage.size`."""
        with self.open(path) as reader:
            return reader.size

    def read(self, path: str) -> bytes:
        """The whole object; see `Storage.read`."""
        with self.open(path) as reader:
            buffer = np.empty(reader.size, np.uint8)
            reader.read_into(0, buffer.data)
            return buffer.tobytes()

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        """Upload under its own name, which shows it only when it is whole; see `Storage.write_atomic`."""
        length = memoryview(data).nbytes
        key = self.location.key(path)

        def put(filesystem: FileSystem) -> None:
            # No `with`: leaving it by an exception would complete the upload.
            stream = filesystem.open_output_stream(key)
            stream.write(data)
            stream.close()
            stored = filesystem.get_file_info(key).size
            if stored != length:
                raise Transient(f"{stored} of {length} bytes stored")

        # Ctrl-C reaches the main thread alone: in another it cannot come between open and write.
        if threading.current_thread() is not threading.main_thread():
            self._connection.run(path, put, writing=True)
            return
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self._connection.run, path, put, writing=True).result()

    def exists(self, path: str) -> bool:
        """Whether there is an object, or one below that name.

        Raises:
            InputError: the bucket is not there, or may not be read.
        """

        def look(filesystem: FileSystem) -> bool:
            if filesystem.get_file_info(self.location.key(path)).type is not FileType.NotFound:
                return True
            if filesystem.get_file_info(self.location.bucket).type is FileType.NotFound:
                raise missing_bucket(self.location)
            return False

        return self._connection.run(path, look)

    def list(self, path: str) -> tuple[str, ...]:
        """The sorted names right below a prefix; see `Storage.list`."""
        names = {info.path.removeprefix(f"{self.location.key(path)}/") for info in self._below(path)}
        return tuple(sorted({name.partition("/")[0] for name in names} - {PROBE, ""}))

    def modified(self, path: str) -> dict[str, float]:
        """By the store's clock; see `Storage.modified`."""
        names = {info.path.removeprefix(f"{self.location.key(path)}/"): info for info in self._below(path)}
        files = {name: info for name, info in names.items() if info.is_file and "/" not in name}
        return {name: info.mtime_ns / 1e9 for name, info in files.items() if name != PROBE}

    def leftovers(self, path: str) -> tuple[str, ...]:
        """None: an object is there whole or not at all; see `Storage.leftovers`."""
        return ()

    def remove_tree(self, path: str) -> None:
        """Remove an object, or all below a prefix; see `Storage.remove_tree`."""
        key = self.location.key(path)

        def remove(filesystem: FileSystem) -> None:
            kind = filesystem.get_file_info(key).type
            if kind is FileType.Directory and (self.location.scheme == "gs" or key == self.location.bucket):
                filesystem.delete_dir_contents(key, missing_dir_ok=True)
            elif kind is FileType.Directory:
                filesystem.delete_dir(key)
            elif kind is FileType.File:
                filesystem.delete_file(key)

        self._connection.run(path, remove, writing=True)

    def _below(self, path: str) -> Iterable[FileInfo]:
        # On Google's store pyarrow sees no directory that was not made as one: the files below tell of it.
        recursive = self.location.scheme == "gs"
        selector = FileSelector(self.location.key(path), allow_not_found=True, recursive=recursive)
        found: Iterable[FileInfo] = self._connection.run(path, lambda store: store.get_file_info(selector))
        return found

    @property
    def directory(self) -> None:
        """None: no process has it as a directory."""
        return None

    def free_bytes(self) -> None:
        """None: a store does not say."""
        return None

    def remove_temporaries(self) -> None:
        """Nothing: an object is there whole or not at all."""

    def ensure_writable(self) -> None:
        """Write an object and remove it; see `Storage.ensure_writable`."""
        self.write_atomic(PROBE, b"0")
        self.remove_tree(PROBE)
