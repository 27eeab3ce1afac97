"""A checkpoint: weights as safetensors beside a JSON state; nothing is unpickled on load."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        except RuntimeError as error:
            raise InputError(
                "checkpoint",
                str(self.directory),
                f"its weights must fit the network ({' '.join(str(error).split())})",
                "use the configuration it was trained with",
            ) from error


def save(directory: Path, network: nn.Module, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all: a new folder is filled, then renamed over the old one.

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
    if directory.exists():
        # A folder cannot be renamed over a full one: the old one steps aside first.
        old = directory.with_name(f".{directory.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(directory, old)
        os.rename(temporary, directory)
        shutil.rmtree(old)
    else:
        os.rename(temporary, directory)


def load(directory: Path) -> Checkpoint:
    """Open a checkpoint.

    Raises:
        InputError: if `directory` holds none.
    """
    missing = [name for name in (STATE, WEIGHTS) if not (directory / name).is_file()]
    if missing:
        raise InputError(
            "checkpoint",
            str(directory),
            f"it must be a folder with {WEIGHTS} and {STATE}; missing: {', '.join(missing)}",
            "give the folder that `ristune train` or `ristune sweep` named, such as runs/NAME/best",
        )
    return Checkpoint(directory, json.loads((directory / STATE).read_text()))
