"""A checkpoint: tensors as safetensors beside a JSON state; whole or found damaged, nothing unpickled."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ristune.errors import InputError

WEIGHTS = "weights.safetensors"
STATE = "state.json"
# Length and sha256 of every other file; written last.
CONTENTS = "contents.json"
CHUNK = 1 << 20

Parts = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """Weights by name, and the state that reproduces them.

    Attributes:
        directory: where it lies.
        state: epoch, objective, metrics, resolved configuration, dataset id, versions.
    """

    directory: Path
    state: dict[str, Any]

    def load_into(self, network: nn.Module) -> None:
        """Load the weights, every name and shape matching.

        Raises:
            InputError: if the network has other parameters than the checkpoint.
        """
        try:
            network.load_state_dict(self.tensors(WEIGHTS), strict=True)
        except RuntimeError as error:
            raise InputError(
                "checkpoint",
                str(self.directory),
                f"its weights must fit the network ({' '.join(str(error).split())})",
                "use the configuration it was trained with",
            ) from error

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of its files, on the CPU.

        Raises:
            InputError: if there is no such file, or it is no safetensors file.
        """
        try:
            return load_file(self.directory / name)
        except (OSError, SafetensorError) as error:
            raise InputError(
                "checkpoint", str(self.directory), f"it must hold {name} ({error})", "give one that does"
            ) from error


def save(directory: Path, network: nn.Module, state: Mapping[str, Any]) -> None:
    """Write what was validated: `network`'s weights and a state; see `write`."""
    write(directory, {WEIGHTS: network.state_dict()}, state)


def write(directory: Path, parts: Parts, state: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all: a new folder is filled, then takes the old one's name.

    A folder cannot be renamed over a full one, so the old one steps aside first; a crash between the two
    renames leaves it there, whole, where `load` finds it.

    Args:
        directory: the checkpoint's folder; one that is there is replaced.
        parts: tensors by file and name.
        state: plain JSON values.

    Raises:
        InputError: if what is to be saved is no tensor.
    """
    temporary = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _fill(temporary, parts, state)
    except BaseException:
        # On a full disk it would take what the next one needs.
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    old = _aside(directory)
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(directory, old)
    os.rename(temporary, directory)
    shutil.rmtree(old, ignore_errors=True)


def _fill(temporary: Path, parts: Parts, state: Mapping[str, Any]) -> None:
    """Write the files of a checkpoint, and see that they are on the disk."""
    for name, tensors in parts.items():
        try:
            save_file(_apart(tensors), temporary / name)
        except SafetensorError as error:
            # It passes on the text of the system's errors alone: "No space left on device (os error 28)".
            known = re.search(r"\(os error (\d+)\)", str(error))
            if known is None:
                raise
            number = int(known[1])
            # Without the file's name: the same cause in many trials is to be counted as one.
            raise OSError(number, os.strerror(number)) from error
    (temporary / STATE).write_text(json.dumps(state, indent=2, allow_nan=False) + "\n")
    files = [*parts, STATE]
    contents = {name: _measured(temporary / name) for name in files}
    # Without an end of line: cut off anywhere, it is no JSON.
    (temporary / CONTENTS).write_text(json.dumps(contents))
    for name in (*files, CONTENTS):
        # A rename may reach the disk before what it names.
        with (temporary / name).open("rb") as file:
            os.fsync(file.fileno())


def load(directory: Path) -> Checkpoint:
    """Open a checkpoint, every byte of it checked.

    Raises:
        InputError: if `directory` holds none, or a damaged one.
    """
    if not directory.exists() and _aside(directory).is_dir():
        directory = _aside(directory)
    missing = [name for name in (STATE, WEIGHTS, CONTENTS) if not (directory / name).is_file()]
    if missing:
        raise InputError(
            "checkpoint",
            str(directory),
            f"it must be a folder with {WEIGHTS}, {STATE} and {CONTENTS}; missing: {', '.join(missing)}",
            "give the folder that `ristune train` or `ristune sweep` named, such as runs/NAME/best",
        )
    try:
        contents = json.loads((directory / CONTENTS).read_text())
    except ValueError as error:
        raise _damaged(directory, f"{CONTENTS} is cut off or altered ({error})") from error
    for name, (size, digest) in contents.items():
        path = directory / name
        if not path.is_file():
            raise _damaged(directory, f"{name} is missing")
        found = _measured(path)
        if found != [size, digest]:
            what = f"has {found[0]} bytes of {size}" if found[0] != size else "was altered"
            raise _damaged(directory, f"{name} {what}")
    return Checkpoint(directory, json.loads((directory / STATE).read_text()))


def _damaged(directory: Path, how: str) -> InputError:
    return InputError("checkpoint", str(directory), f"it must be whole, and {how}", "use a whole copy")


def _measured(path: Path) -> list[Any]:
    """Length and sha256 of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return [size, digest.hexdigest()]


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that share no memory: safetensors refuses tied weights."""
    found: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"task.network: {name!r}",
                type(tensor).__name__,
                "the state of a network must be tensors, so that a checkpoint needs no unpickling",
                "keep it in a buffer, or out of get_extra_state",
            )
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return found


def _aside(directory: Path) -> Path:
    """Where an old checkpoint waits while a new one takes its name."""
    return directory.with_name(f".{directory.name}.old")
