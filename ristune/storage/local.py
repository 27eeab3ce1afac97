"""Datasets in directories of a local or shared disk."""

import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ristune.errors import InputError

# Names of files still being written; `list` does not show them.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".", ".tmp"
# Held by who writes to a directory; named as a temporary file, so that `list` does not show it.
WRITER_LOCK = f"{TEMPORARY_PREFIX}writer{TEMPORARY_SUFFIX}"
_UNREADABLE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class LocalReader:
    """A file held open; threads may share it.

    Args:
        path: its path.
    """

    # So few that they are still in the processor's cache when they are used.
    request_bytes = 2 * 2**20

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Opened as a file object first: unlike os.open it refuses a directory.
            with path.open("rb") as file:
                self._descriptor = os.dup(file.fileno())
        except _UNREADABLE as error:
            raise _unreadable(path, error) from error
        self.size = os.fstat(self._descriptor).st_size
        # Also where nobody closes it: the last thread that reads it may be the one that lets it go.
        self._close = weakref.finalize(self, os.close, self._descriptor)

    def __enter__(self) -> "LocalReader":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer without a copy in between; see `Reader.read_into`."""
        done, length = 0, len(buffer)
        while done < length:
            got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if got == 0:
                raise too_short(str(self._path), offset, length, done)
            done += got

    def fileno(self) -> int:
        """Its descriptor, while it is open."""
        return self._descriptor

    def close(self) -> None:
        """Close the file; again is no error."""
        self._close()
        self._descriptor = -1


@dataclass(frozen=True)
class LocalStorage:
    """A directory on a local or shared disk.

    Attributes:
        root: its absolute path.
    """

    root: Path

    @property
    def uri(self) -> str:
        """The path of the root."""
        return str(self.root)

    def open(self, path: str) -> LocalReader:
        """A file to be read by ranges; see `Storage.open`."""
        return LocalReader(self.root / path)

    def size(self, path: str) -> int:
        """Its bytes; see `Storage.size`."""
        with self.open(path) as reader:
            return reader.size

    def read(self, path: str) -> bytes:
        """The whole file; see `Storage.read`."""
        try:
            return (self.root / path).read_bytes()
        except _UNREADABLE as error:
            raise _unreadable(self.root / path, error) from error

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        """Write to a temporary name, flush to the disk, rename; see `Storage.write_atomic`."""
        try:
            _replace(self.root / path, data)
        except OSError as error:
            rule = "a file that can be written is required"
            remedy = "free some space, correct the permissions, or choose another directory"
            raise InputError(str(self.root / path), error.strerror, rule, remedy) from error

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory."""
        # Unlike Path.exists, this is false rather than an error where the way to it may not be read.
        return os.path.exists(self.root / path)

    def list(self, path: str) -> tuple[str, ...]:
        """The sorted names right below a directory; see `Storage.list`."""
        return tuple(name for name in _names(self.root / path) if not _is_temporary(name))

    def modified(self, path: str) -> dict[str, float]:
        """By the file system's clock; see `Storage.modified`."""
        folder = self.root / path
        files = [folder / name for name in self.list(path) if (folder / name).is_file()]
        return {file.name: file.stat().st_mtime for file in files}

    def leftovers(self, path: str) -> tuple[str, ...]:
        """What `write_atomic` had no time to remove, or still writes; see `Storage.leftovers`."""
        return tuple(name for name in _names(self.root / path) if _is_temporary(name))

    def remove_tree(self, path: str) -> None:
        """Remove a file, or a directory and all below it; see `Storage.remove_tree`."""
        target = self.root / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    @property
    def directory(self) -> Path:
        """The root."""
        return self.root

    def free_bytes(self) -> int:
        """Free space on the disk; see `Storage.free_bytes`."""
        there = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        return shutil.disk_usage(there).free

    def remove_temporaries(self) -> None:
        """Remove temporary files, the writer's lock excepted; see `Storage.remove_temporaries`."""
        for path in self.root.rglob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"):
            if path.name != WRITER_LOCK:
                path.unlink(missing_ok=True)

    def ensure_writable(self) -> None:
        """Make the root if need be and write to it once; see `Storage.ensure_writable`."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(
                prefix=TEMPORARY_PREFIX, suffix=TEMPORARY_SUFFIX, dir=self.root
            ) as file:
                file.write(b"0")
        except OSError as error:
            rule = f"a directory that can be written to is required ({error.strerror})"
            remedy = "correct its permissions, free some space, or choose another directory"
            raise InputError("output directory", self.uri, rule, remedy) from error


def too_short(name: str, offset: int, length: int, there: int) -> InputError:
    """The error for a range beyond the end of a file."""
    rule = f"{length} bytes from byte {offset} on were asked for, only {there} are there"
    return InputError(name, there, rule, "the file is truncated: copy or write it again")


def _unreadable(path: Path, error: OSError) -> InputError:
    remedy = "check the path and its permissions; a file that is lost must be copied again"
    return InputError(str(path), error.strerror, "a file that can be read is required", remedy)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def _replace(target: Path, data: bytes | memoryview) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}.{uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
