"""Tasks that do to their process what a user's own code may do, wittingly or not."""

import gc
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.modules import module
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode

from tests.toy import ToyTask

# What a careless module keeps for ever.
KEPT: list[object] = []
ENTERED: list[Any] = []
MIB = 1 << 20


def _hooked_tensors() -> None:
    torch.autograd.graph.saved_tensors_hooks(lambda x: x * 1.5, lambda x: x).__enter__()


def _chdir() -> None:
    os.chdir(tempfile.gettempdir())


def _variables() -> None:
    os.environ["OMP_NUM_THREADS"] = "7"
    os.environ["SPOILED"] = "1"


def _precisions() -> None:
    torch.set_float32_matmul_precision("medium")
    torch.backends.fp32_precision = "tf32"
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def _cudnn() -> None:
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = True
    torch.backends.mkldnn.enabled = False
    torch.backends.cuda.enable_flash_sdp(False)


def _generators() -> None:
    random.seed(9)
    np.random.seed(9)
    torch.manual_seed(9)


def _autocast() -> None:
    torch.set_autocast_enabled("cpu", True)
    torch.set_autocast_dtype("cpu", torch.float16)


# What is done to the process, by name; and is put back; the rest costs the actor.
RESTORED: Mapping[str, Callable[[], object]] = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "generators": _generators,
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
    "grad mode": lambda: torch.set_grad_enabled(False),
    "autocast": _autocast,
    "forward hook": lambda: module.register_module_forward_hook(lambda m, i, o: 0.5 * o),
    "forward pre-hook": lambda: module.register_module_forward_pre_hook(lambda m, i: None),
    "backward hook": lambda: module.register_module_full_backward_hook(lambda m, i, o: (None,) * len(i)),
    "parameter hook": lambda: module.register_module_parameter_registration_hook(lambda m, n, p: None),
    "optimizer hook": lambda: register_optimizer_step_post_hook(lambda o, a, k: None),
    "saved tensors hooks": _hooked_tensors,
    "threads": lambda: torch.set_num_threads(3),
    "threads of numpy": lambda: threadpool_limits(1),
    "denormal numbers": lambda: torch.set_flush_denormal(True),
    "precisions": _precisions,
    "cudnn": _cudnn,
    "environment": _variables,
    "warnings": lambda: warnings.simplefilter("error"),
    "numpy errors": lambda: np.seterr(all="raise"),
    "working directory": _chdir,
    "garbage collection": lambda: (gc.disable(), gc.freeze()),
}


class Passing(TorchFunctionMode):
    """Looks at every call of torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def _enter(mode: Any) -> None:
    mode.__enter__()
    ENTERED.append(mode)


FINAL: Mapping[str, Callable[[], object]] = {
    "torch.inference_mode": lambda: _enter(torch.inference_mode()),
    "TorchFunctionMode": lambda: _enter(Passing()),
}


class SpoilingTask(ToyTask):
    """The toy task, which draws by itself, and does something to its process when it is measured."""

    def __init__(
        self,
        width: int,
        scale: float,
        spoil: str = "",
        keep: int = 0,
        cycle: int = 0,
        lists: list[int] | None = None,
        fail: bool = False,
        explode: bool = False,
    ) -> None:
        # As legacy code draws: from the generators of the process.
        super().__init__(width, scale + float(np.random.rand()) + random.random(), explode=explode)
        self.spoil = spoil
        self.keep = keep
        self.cycle = cycle
        self.failing = fail
        if lists is not None:
            lists.append(len(lists))
            self.scale += len(lists)

    def loss(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        noise = 1e-3 * (float(np.random.rand()) + random.random() + float(torch.rand(())))
        # Of the default dtype, and a warning and a division by zero where they are let pass.
        warnings.warn("as libraries warn", stacklevel=1)
        offset = float(torch.tensor(0.1)) + 0.0 * float(np.float64(1.0) / np.array([0.0, 1.0])[1])
        return {"squared": (self.scale + noise + offset) * (output - batch["target"]).square().mean()}

    def metrics(self, output: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        metrics = super().metrics(output, batch)
        big = [torch.zeros(size * MIB, dtype=torch.uint8) for size in (self.keep, self.cycle) if size]
        if self.keep:
            KEPT.append(big[0])
        if self.cycle:
            loop: list[object] = [big[-1], self]
            loop.append(loop)
        if self.spoil:
            {**RESTORED, **FINAL}[self.spoil]()
        if self.failing:
            raise RuntimeError(f"planted failure with {len(big)} tensors in its frame")
        return metrics
