"""The optimizer and its schedule, counted in optimizer steps."""

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ristune.training.config import OptimizerConfig


def warmup_cosine(step: int, total: int, warmup: float, final: float) -> float:
    """Factor on the learning rate at one optimizer step.

    Args:
        step: 0 for the first.
        total: steps of the whole training.
        warmup: share of `total` spent rising linearly.
        final: factor at the end.
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    progress = min(1.0, (step - rise) / max(1, total - rise))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(
    network: nn.Module, config: OptimizerConfig, total_steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """AdamW over the trainable parameters; vectors and scalars (biases, norms, gates) are not decayed.

    Args:
        network: its parameters that require a gradient are optimised.
        config: learning rate, betas, decay, schedule.
        total_steps: horizon of the schedule, in optimizer steps.
    """
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2))
    schedule = LambdaLR(
        optimizer, lambda step: warmup_cosine(step, total_steps, config.warmup, config.final_lr)
    )
    return optimizer, schedule
