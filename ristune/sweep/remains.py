"""What trials leave behind in the memory of a worker, whoever holds it."""

import ctypes
import gc
import re
from pathlib import Path

import torch

from ristune.trial import kept_on_gpus

# Bytes, of a node's memory or a GPU's, that trials may leave behind before their worker is replaced: what
# libraries keep for themselves is less, and a worker takes seconds to start.
ALLOWED = 1 << 29
MIB = 1 << 20
_STATUS = Path("/proc/self/status")


class Remains:
    """Measures what is left between trials, beside what the first one left: caches are filled once."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}

    def check(self) -> str:
        """Free what is garbage and measure.

        Returns:
            What is left, if it is too much; else empty.
        """
        collect()
        found = _measured()
        if not self._first:
            self._first = found
        if any(size > self._first[name] + ALLOWED for name, size in found.items()):
            # What the allocator has kept is no trial's.
            _trim()
            found = _measured()
        for name, size in found.items():
            grown = size - self._first[name]
            if grown > ALLOWED:
                return f"its trials have left {grown // MIB} MiB of {name} behind"
        return ""


def collect() -> None:
    """Free what nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        # The peak of this trial is not the next one's.
        torch.cuda.reset_peak_memory_stats()


def _measured() -> dict[str, int]:
    """Bytes by kind: memory that is no file's, and tensors on GPUs beside the samples that are kept there."""
    found = {"memory": _anonymous()}
    if torch.cuda.is_available():
        found["GPU memory"] = torch.cuda.memory_allocated() - kept_on_gpus()
    return found


def _anonymous() -> int:
    """Bytes of this process's memory that are no file's; 0 on a system that does not say."""
    if not _STATUS.exists():
        return 0
    known = re.search(r"RssAnon:\s+(\d+) kB", _STATUS.read_text())
    return int(known[1]) * 1024 if known else 0


def _trim() -> None:
    """Have the C library give back what it has freed, where it can."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
