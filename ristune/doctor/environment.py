"""Whether this machine can do what the configuration asks for."""

import platform
from pathlib import Path

import torch
from torch import nn

from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Outcome, failed, passed
from ristune.training.device import resolve_device, resolve_precision
from ristune.training.forward import AUTOCAST_DTYPE
from ristune.trial import versions

# There as soon as NVIDIA's driver has found a GPU.
GPU = Path("/dev/nvidia0")


def environment(bench: Bench) -> Outcome:
    """Device and precision as asked for, tried on a tiny network; versions."""
    config = bench.full.training
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    said = ", ".join(f"{name} {version}" for name, version in versions().items())
    where = f"{_name(device)} in {precision}; {said}"
    if device.type == "cpu" and config.device == "auto" and GPU.exists():
        return failed(
            f"{GPU} is there, and torch {torch.__version__} sees no GPU: trials would run on the CPU",
            "install a torch for the driver's CUDA version, or set training.device=cpu",
        )
    if (
        device.type == "cuda"
        and precision == "bf16"
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        return failed(
            f"{where}: this GPU only emulates BF16, slowly", "set training.precision=auto, fp16 or fp32"
        )
    wrong = _tried(device, precision)
    if wrong:
        return failed(f"{where}: {wrong}", "set training.precision=fp32 or training.device=cpu")
    return passed(where)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _tried(device: torch.device, precision: str) -> str:
    """What is wrong with a step of a tiny network, which uses the kernels that most networks use."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Linear(8, 1)).to(device)
    dtype = AUTOCAST_DTYPE[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        output = network(torch.ones(2, 1, 4, 4, device=device))
    if output.dtype != dtype:
        return f"the network ran in {output.dtype}"
    torch.autograd.backward(output.float().square().mean())
    finite = all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
    return "" if finite else "a gradient of a tiny network is not finite"
