"""What a trial may change in the process that it runs in, and how it is made what it was."""

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch.nn.modules import module
from torch.optim import optimizer
from torch.overrides import _get_current_function_mode_stack
from torch.utils import deterministic
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

# Variables of Ray and of a tracker's service, which lives longer than a trial.
OWN_VARIABLES = ("RAY_", "WANDB_")
_MODULE_HOOKS = (
    *("_global_forward_hooks", "_global_forward_hooks_always_called", "_global_forward_hooks_with_kwargs"),
    *("_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks"),
    *("_global_module_registration_hooks", "_global_parameter_registration_hooks"),
    "_global_buffer_registration_hooks",
)
_OPTIMIZER_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
_REDUCED = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
# Those that others follow come first.
_ATTRIBUTES: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
    ("torch.backends", torch.backends, ("fp32_precision",)),
    ("cudnn", torch.backends.cudnn, ("fp32_precision", "enabled", "benchmark", "deterministic")),
    ("mkldnn", torch.backends.mkldnn, ("fp32_precision", "enabled", "deterministic")),
    ("cuda.matmul", torch.backends.cuda.matmul, ("fp32_precision", "allow_fp16_accumulation", *_REDUCED)),
    ("opt_einsum", torch.backends.opt_einsum, ("enabled", "strategy")),
    ("torch.utils.deterministic", deterministic, ("fill_uninitialized_memory",)),
    ("torch.nn", module, ("_global_is_full_backward_hook",)),
)
_ATTENTION = ("flash", "mem_efficient", "math", "cudnn")
# Not finite, and not zero, unless the processor takes it for zero.
_TINY, _ONE = 5e-324, 1.0


@dataclass(frozen=True)
class Switch:
    """One thing in a process that a trial may change.

    Attributes:
        name: as a user may know it.
        read: gives what there is, to be compared.
        write: puts back what was read; None where nothing can.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None


class Baseline:
    """What a process was before its first trial.

    Not in it, for nothing tells of them: functions that a trial has replaced, threads that it has started,
    and what a module does when it is first imported by a trial instead of with the task. Generators are
    seeded for each trial.

    Attributes:
        frozen: objects that garbage collections leave out; where there are more, a trial has done it.
    """

    def __init__(self) -> None:
        self._switches = list(_switches())
        self._values = [switch.read() for switch in self._switches]
        self.frozen = gc.get_freeze_count()

    def restore(self) -> str:
        """Make the process what it was.

        Returns:
            What cannot be made so, by name; empty if all could.
        """
        for switch, value in zip(self._switches, self._values, strict=True):
            if switch.write is not None and not _is(switch, value):
                # What fails is found below.
                with suppress(RuntimeError, OSError):
                    switch.write(value)
        # Compiled code of a trial's network; torch imports its compiler with the first optimizer.
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        if gc.get_freeze_count() > self.frozen:
            gc.unfreeze()
        pairs = zip(self._switches, self._values, strict=True)
        return ", ".join(switch.name for switch, value in pairs if not _is(switch, value))


def _is(switch: Switch, value: Any) -> bool:
    try:
        return bool(switch.read() == value)
    # torch refuses to read a precision that was set in two ways, the folder may be gone: another value.
    except (RuntimeError, OSError):
        return False


def _switches() -> Iterator[Switch]:
    yield from _modes()
    yield from _numerics()
    for name in _MODULE_HOOKS:
        yield _registry(name, vars(module)[name])
    for name in _OPTIMIZER_HOOKS:
        yield _registry(name, vars(optimizer)[name])
    yield Switch("environment variables", _variables, _set_variables)
    yield Switch("working directory", os.getcwd, os.chdir)
    yield Switch("warnings filters", lambda: list(warnings.filters), _set_filters)
    yield Switch("numpy.seterr", np.geterr, lambda value: np.seterr(**value))
    yield Switch("gc.disable", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield Switch("gc.set_threshold", gc.get_threshold, lambda value: gc.set_threshold(*value))


def _modes() -> Iterator[Switch]:
    """How torch treats every operation."""
    # Each mode that is on costs every call: none is put in the place of none.
    yield Switch(
        "torch.set_default_device", torch.get_default_device, lambda _: torch.set_default_device(None)
    )
    yield Switch("torch.set_default_dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Switch("torch.set_grad_enabled", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Switch(
        "torch.autograd.set_detect_anomaly",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.autograd.set_detect_anomaly(*value),
    )
    yield Switch(
        "torch.autograd.set_multithreading_enabled",
        torch._C._is_multithreading_enabled,
        torch.autograd.set_multithreading_enabled,
    )
    yield from map(_autocast, ("cpu", "cuda"))
    yield Switch(
        "torch.set_autocast_cache_enabled", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled
    )
    yield Switch("torch.autograd.graph.saved_tensors_hooks", _saved_tensors_hooks, _pop_saved_tensors_hooks)
    # A guard that was entered and not left cannot be left by another.
    yield Switch("torch.inference_mode", torch.is_inference_mode_enabled, None)
    yield Switch("TorchFunctionMode", lambda: len(_get_current_function_mode_stack()), None)
    yield Switch("TorchDispatchMode", lambda: len(_get_current_dispatch_mode_stack()), None)


def _numerics() -> Iterator[Switch]:
    """On how many threads, and how exactly, it is computed."""
    pools = ThreadpoolController().lib_controllers
    yield Switch("torch.set_num_threads", torch.get_num_threads, torch.set_num_threads)
    yield Switch("torch.set_num_interop_threads", torch.get_num_interop_threads, None)
    for pool in pools:
        yield Switch(f"threads of {pool.prefix}", pool.get_num_threads, pool.set_num_threads)
    yield Switch(
        "torch.use_deterministic_algorithms",
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
    )
    yield Switch("torch.set_flush_denormal", lambda: _TINY * _ONE == 0, torch.set_flush_denormal)
    yield Switch(
        "torch.set_float32_matmul_precision",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    )
    for owner_name, owner, names in (*_ATTRIBUTES, *_precisions()):
        for name in names:
            # Not every release of torch has them all.
            if hasattr(owner, name):
                yield _attribute(owner_name, owner, name)
    for kind in _ATTENTION:
        yield Switch(
            f"torch.backends.cuda.enable_{kind}_sdp",
            getattr(torch.backends.cuda, f"{kind}_sdp_enabled"),
            getattr(torch.backends.cuda, f"enable_{kind}_sdp"),
        )


def _precisions() -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Of single operations; of older releases of torch, of a library."""
    if not hasattr(torch.backends, "fp32_precision"):
        yield "cudnn", torch.backends.cudnn, ("allow_tf32",)
        return
    for library in ("cudnn", "mkldnn"):
        for operation in ("conv", "rnn", "matmul"):
            owner = getattr(torch.backends, library)
            if hasattr(owner, operation):
                yield f"{library}.{operation}", getattr(owner, operation), ("fp32_precision",)


def _attribute(owner_name: str, owner: Any, name: str) -> Switch:
    return Switch(
        f"{owner_name}.{name}", lambda: getattr(owner, name), lambda value: setattr(owner, name, value)
    )


def _registry(name: str, hooks: dict[Any, Any]) -> Switch:
    def write(value: dict[Any, Any]) -> None:
        hooks.clear()
        hooks.update(value)

    return Switch(f"hooks in {name}", lambda: dict(hooks), write)


def _autocast(device: str) -> Switch:
    def write(value: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    def read() -> tuple[bool, torch.dtype]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    return Switch(f"torch.autocast({device!r})", read, write)


def _saved_tensors_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(False)


def _pop_saved_tensors_hooks(value: Any) -> None:
    while _saved_tensors_hooks() != value:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}


def _set_variables(value: dict[str, str]) -> None:
    for name in set(_variables()) - set(value):
        del os.environ[name]
    os.environ.update(value)


def _set_filters(value: list[Any]) -> None:
    # Also forgets what each module has found out about them.
    warnings.resetwarnings()
    # A list, though its stub says a sequence; there is no public way to put filters of any kind back.
    warnings.filters.extend(value)  # type: ignore[attr-defined]
