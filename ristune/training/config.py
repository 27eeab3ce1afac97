"""What the trainer is told: plain values; their defaults live in `configs/` alone."""

import math
from dataclasses import dataclass
from typing import Any

from ristune.errors import InputError, require

PRECISIONS = ("auto", "bf16", "fp16", "fp32")
DEVICES = ("auto", "cpu", "cuda")
AVERAGES = ("none", "ema", "swa")
OPTIMIZERS = ("adamw",)
SCHEDULES = ("cosine", "one_cycle", "plateau", "constant")
GROUP_KEYS = ("match", "lr", "weight_decay")


@dataclass(frozen=True)
class TrainingConfig:
    """The group `training`; `configs/training/default.yaml` says what each value means."""

    epochs: int
    batch_size: int
    accumulate: int
    precision: str
    loss_scale: float | None
    device: str
    threads: int
    tf32: bool
    deterministic: bool
    clip_norm: float
    average: str
    ema_decay: float
    swa_start: float
    swa_lr: float
    curriculum: list[Any]
    objective: str
    ceiling: float
    max_skips: int
    max_skip_share: float
    check_inputs: int
    diagnostics: bool
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        for name in ("epochs", "batch_size", "accumulate", "max_skips"):
            require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
        for name, known in (("precision", PRECISIONS), ("device", DEVICES), ("average", AVERAGES)):
            value = getattr(self, name)
            require(value in known, f"training.{name}", value, f"one of {', '.join(known)}")
        scale = self.loss_scale
        require(
            scale is None or 0 < scale < math.inf, "training.loss_scale", scale, "null, or finite and above 0"
        )
        require(self.threads >= 0, "training.threads", self.threads, "0 (auto) or more")
        require(self.clip_norm > 0, "training.clip_norm", self.clip_norm, "above 0")
        require(0 <= self.ema_decay < 1, "training.ema_decay", self.ema_decay, "in [0, 1)")
        require(0 <= self.swa_start < 1, "training.swa_start", self.swa_start, "in [0, 1)")
        require(0 < self.swa_lr <= 1, "training.swa_lr", self.swa_lr, "in (0, 1]")
        require(0 < self.ceiling < math.inf, "training.ceiling", self.ceiling, "finite and above 0")
        share = self.max_skip_share
        require(0 < share <= 1, "training.max_skip_share", share, "in (0, 1]")
        require(self.check_inputs >= 0, "training.check_inputs", self.check_inputs, "0 (never) or more")
        seconds = self.checkpoint_seconds
        require(seconds > 0, "training.checkpoint_seconds", seconds, "above 0")


@dataclass(frozen=True)
class OptimizerConfig:
    """The group `optimizer`; `configs/optimizer/adamw.yaml` says what each value means."""

    name: str
    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    schedule: str
    warmup: float
    final_lr: float
    plateau_factor: float
    plateau_patience: int
    groups: dict[str, Any]

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        require(self.name in OPTIMIZERS, "optimizer.name", self.name, f"one of {', '.join(OPTIMIZERS)}")
        require(0 < self.lr < math.inf, "optimizer.lr", self.lr, "finite and above 0")
        require(0 <= self.weight_decay < math.inf, "optimizer.weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.beta1 < 1, "optimizer.beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "optimizer.beta2", self.beta2, "in [0, 1)")
        known = ", ".join(SCHEDULES)
        require(self.schedule in SCHEDULES, "optimizer.schedule", self.schedule, f"one of {known}")
        require(0 <= self.warmup < 1, "optimizer.warmup", self.warmup, "in [0, 1)")
        require(0 <= self.final_lr <= 1, "optimizer.final_lr", self.final_lr, "in [0, 1]")
        factor, patience = self.plateau_factor, self.plateau_patience
        require(0 < factor < 1, "optimizer.plateau_factor", factor, "in (0, 1)")
        require(patience >= 0, "optimizer.plateau_patience", patience, "0 or more")
        for name, group in self.groups.items():
            _check_group(f"optimizer.groups.{name}", group)


def _check_group(path: str, group: Any) -> None:
    if not isinstance(group, dict) or not {"match"} <= set(group) <= set(GROUP_KEYS):
        raise InputError(
            path,
            group,
            f"it must be a mapping of {', '.join(GROUP_KEYS)}, of which 'match' is required",
            "write for example heads: {match: ['head.*'], lr: 1.0e-3}",
        )
    match = group["match"]
    sound = isinstance(match, list) and match and all(isinstance(pattern, str) for pattern in match)
    require(bool(sound), f"{path}.match", match, "a list of patterns of parameter names, such as ['head.*']")
    for key, above in (("lr", True), ("weight_decay", False)):
        value = group.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        rule = "a finite number above 0" if above else "a finite number of at least 0"
        require(number and (value > 0 or (not above and value == 0)), f"{path}.{key}", value, rule)
