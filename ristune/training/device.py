"""Where and in what precision a training runs."""

import torch

from ristune.errors import InputError


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
