"""Where and how exactly a training runs: device, precision, and torch's process-wide switches."""

import os

import torch
from torch import nn

from ristune.errors import InputError
from ristune.training.config import TrainingConfig


def resolve_device(name: str) -> torch.device:
    """The device that `training.device` asks for; `auto` takes a GPU if there is one.

    Raises:
        InputError: if a GPU is asked for and torch sees none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "training.device", name, "torch must see a GPU", "set training.device=cpu, or install a driver"
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision that `training.precision` asks for; `auto` takes BF16 on a GPU that has it, else FP32."""
    if name != "auto":
        return name
    return (
        "bf16"
        if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        else "fp32"
    )


def check_scaler(loss_scale: float | None, precision: str, network: nn.Module) -> None:
    """Refuse a gradient scaler where it has nothing to do: BF16 and FP32 have the range of FP32.

    Raises:
        InputError: if a scale is given and the precision is not fp16, or it is and torch cannot scale.
    """
    if precision == "fp16" and any(p.is_complex() for p in network.parameters()):
        raise InputError(
            "training.precision",
            precision,
            "torch scales no complex gradients, and the network has complex parameters",
            "set training.precision=bf16 or fp32",
        )
    if loss_scale is not None and precision != "fp16":
        raise InputError(
            "training.loss_scale",
            loss_scale,
            f"a gradient scaler is for fp16 only, and this training runs in {precision}",
            "set training.loss_scale=null, or training.precision=fp16",
        )


def configure_process(config: TrainingConfig) -> None:
    """Set torch's process-wide switches, each on or off, whatever an earlier trial left."""
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = config.tf32
    if config.deterministic:
        # cuBLAS reads it when its handle is made; without it torch refuses matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(config.deterministic)
    torch.backends.cudnn.benchmark = False
