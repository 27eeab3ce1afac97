"""The state of every generator a task may draw from, taken and given back."""

import ctypes
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Of the Mersenne twister: 624 words and a position.
NUMPY_BYTES = 625 * 4


@dataclass(frozen=True)
class RandomState:
    """Generators of Python, numpy, torch on the CPU and torch on one GPU."""

    python: tuple[Any, ...]
    legacy_numpy: dict[str, Any]
    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def capture(cls, device: torch.device) -> "RandomState":
        """The state now; on a GPU without a host synchronisation."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        legacy_numpy = dict(np.random.get_state(legacy=False))
        return cls(random.getstate(), legacy_numpy, torch.get_rng_state(), cuda)

    def restore(self, device: torch.device) -> None:
        """Go back to it."""
        random.setstate(self.python)
        np.random.set_state(self.legacy_numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)

    def tensors(self) -> dict[str, Tensor]:
        """As tensors by name, for a file."""
        _, words, gauss = self.python
        own = self.legacy_numpy["state"]
        tensors = {
            "python": torch.tensor(words, dtype=torch.int64),
            "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
            "numpy": torch.from_numpy(own["key"].astype(np.int64)),
            "numpy_rest": torch.tensor(
                [own["pos"], self.legacy_numpy["has_gauss"], self.legacy_numpy["gauss"]], dtype=torch.float64
            ),
            "torch": self.cpu,
        }
        return tensors if self.cuda is None else {**tensors, "cuda": self.cuda}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "RandomState":
        """What `tensors` made."""
        gauss = tensors["python_gauss"].tolist()
        position, has_gauss, cached = tensors["numpy_rest"].tolist()
        key = tensors["numpy"].numpy().astype(np.uint32)
        return cls(
            python=(3, tuple(tensors["python"].tolist()), gauss[0] if gauss else None),
            legacy_numpy={
                "bit_generator": "MT19937",
                "state": {"key": key, "pos": int(position)},
                "has_gauss": int(has_gauss),
                "gauss": cached,
            },
            cpu=tensors["torch"],
            cuda=tensors.get("cuda"),
        )


class Generators:
    """Captures the generators again and again, cheaply: those of a training, before each window.

    Args:
        device: where the network draws.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._words = b""
        self._numpy: dict[str, Any] = {}

    def capture(self) -> RandomState:
        """As `RandomState.capture`; numpy's state, which takes 30 microseconds, only if it was drawn from."""
        # Documented, though numpy's stubs do not export it.
        state = np.random.get_bit_generator().ctypes.state_address  # type: ignore[attr-defined]
        words = ctypes.string_at(state, NUMPY_BYTES)
        # A normal deviate that numpy keeps for the next call is drawn without a trace in its words.
        if words != self._words or self._numpy["has_gauss"]:
            self._words, self._numpy = words, dict(np.random.get_state(legacy=False))
        cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return RandomState(random.getstate(), self._numpy, torch.get_rng_state(), cuda)


def seed_process(seed: int) -> None:
    """Seed what a task may draw from by itself (dropout), lest it depend on an earlier trial."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
