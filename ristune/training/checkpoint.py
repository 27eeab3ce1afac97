"""A checkpoint: weights as safetensors beside a JSON state; nothing is unpickled on load."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ristune.errors import InputError

WEIGHTS = "weights.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was validated: weights by name, and the state that reproduces it.

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
            network.load_state_dict(load_file(self.directory / WEIGHTS), strict=True)
        except (RuntimeError, SafetensorError) as error:
            raise InputError(
                "checkpoint",
                str(self.directory),
                f"its weights must be whole and fit the network ({' '.join(str(error).split())})",
                "use a whole copy and the configuration it was trained with",
            ) from error


def save(directory: Path, network: nn.Module, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all: a new folder is filled, then takes the old one's name.

    A folder cannot be renamed over a full one, so the old one steps aside first; a crash between the two
    renames leaves it there, whole, where `load` finds it.

    Args:
        directory: the checkpoint's folder; one that is there is replaced.
        network: the network as it was validated.
        state: plain JSON values.
    """
    temporary = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, temporary / WEIGHTS)
    (temporary / STATE).write_text(json.dumps(state, indent=2, allow_nan=False) + "\n")
    for name in (WEIGHTS, STATE):
        # A rename may reach the disk before what it names.
        with (temporary / name).open("rb") as file:
            os.fsync(file.fileno())
    old = _aside(directory)
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(directory, old)
    os.rename(temporary, directory)
    shutil.rmtree(old, ignore_errors=True)


def load(directory: Path) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        InputError: if `directory` holds none, or a damaged one.
    """
    if not directory.exists() and _aside(directory).is_dir():
        directory = _aside(directory)
    missing = [name for name in (STATE, WEIGHTS) if not (directory / name).is_file()]
    if missing:
        raise InputError(
            "checkpoint",
            str(directory),
            f"it must be a folder with {WEIGHTS} and {STATE}; missing: {', '.join(missing)}",
            "give the folder that `ristune train` or `ristune sweep` named, such as runs/NAME/best",
        )
    try:
        return Checkpoint(directory, json.loads((directory / STATE).read_text()))
    except ValueError as error:
        raise InputError(
            "checkpoint", str(directory), f"its {STATE} must be whole ({error})", "use a whole copy"
        ) from error


def _aside(directory: Path) -> Path:
    """Where an old checkpoint waits while a new one takes its name."""
    return directory.with_name(f".{directory.name}.old")
