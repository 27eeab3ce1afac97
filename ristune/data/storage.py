"""Where datasets lie: the one interface to files, and local directories behind it."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from ristune.errors import InputError

# Names of files still being written; `list` does not show them.
TEMPORARY_PREFIX, TEMPORARY_SUFFIX = ".", ".tmp"


class Storage(Protocol):
    """A tree of files; paths are relative to its root, parts joined by `/`, and `""` is the root."""

    @property
    def uri(self) -> str:
        """The root, as errors name it and as `open_storage` takes it."""

    def read(self, path: str) -> bytes:
        """The whole file.

        Raises:
            InputError: there is no such file, or it may not be read.
        """

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` on.

        Raises:
            InputError: there is no such file, it may not be read, or it is shorter.
        """

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        """Write or replace a file: a reader sees the old one or the new one whole, also after a crash."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory."""

    def list(self, path: str) -> tuple[str, ...]:
        """The sorted names right below a directory; none if it is not there."""

    def remove_tree(self, path: str) -> None:
        """Remove a file, or a directory and all below it; nothing there is no error."""

    def ensure_writable(self) -> None:
        """Make the root if need be and write to it once.

        Raises:
            InputError: that is not possible.
        """


def open_storage(uri: str, name: str = "uri") -> Storage:
    """The storage behind a URI; it need not exist yet.

    Args:
        uri: a plain path, or `file://` and an absolute path.
        name: where the URI came from, as it is to be named in errors.

    Raises:
        InputError: the URI is empty or not of a local directory.
    """
    if not uri:
        raise InputError(name, uri, "a directory is required", "give its path")
    if "://" not in uri:
        return LocalStorage(Path(uri).expanduser().absolute())
    parts = urlsplit(uri)
    if parts.scheme != "file":
        rule = "only local directories are supported by this version, as a plain path or file:///path"
        raise InputError(name, uri, rule, "copy the dataset to a local or shared disk and give its path")
    if parts.netloc not in ("", "localhost") or not parts.path:
        rule = "file:// is followed by an absolute path"
        raise InputError(name, uri, rule, "write file:///path, or the plain path")
    return LocalStorage(Path(unquote(parts.path)))


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

    def read(self, path: str) -> bytes:
        """The whole file; see `Storage.read`."""
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise self._unreadable(path, error) from error

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` on; see `Storage.read_range`."""
        try:
            with (self.root / path).open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise self._unreadable(path, error) from error
        if len(data) != length:
            rule = f"{length} bytes from byte {offset} on were asked for, only {len(data)} are there"
            remedy = "the file is truncated: copy or write it again"
            raise InputError(str(self.root / path), len(data), rule, remedy)
        return data

    def write_atomic(self, path: str, data: bytes | memoryview) -> None:
        """Write to a temporary name, flush to the disk, rename; see `Storage.write_atomic`."""
        target = self.root / path
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

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory."""
        # Unlike Path.exists, this is false rather than an error where the way to it may not be read.
        return os.path.exists(self.root / path)

    def list(self, path: str) -> tuple[str, ...]:
        """The sorted names right below a directory; see `Storage.list`."""
        try:
            names = os.listdir(self.root / path)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(name for name in names if not _is_temporary(name)))

    def remove_tree(self, path: str) -> None:
        """Remove a file, or a directory and all below it; see `Storage.remove_tree`."""
        target = self.root / path
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

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

    def _unreadable(self, path: str, error: OSError) -> InputError:
        remedy = "check the path and its permissions; a file that is lost must be copied again"
        return InputError(
            str(self.root / path), error.strerror, "a file that can be read is required", remedy
        )


def _is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX) and name.endswith(TEMPORARY_SUFFIX)


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
