"""What the trainer is told: plain values; their defaults live in `configs/` alone."""

from dataclasses import dataclass

from ristune.errors import require

PRECISIONS = ("auto", "bf16", "fp16", "fp32")
DEVICES = ("auto", "cpu", "cuda")
OPTIMIZERS = ("adamw",)


@dataclass(frozen=True)
class TrainingConfig:
    """The group `training`."""

    epochs: int
    batch_size: int
    precision: str
    device: str
    threads: int
    clip_norm: float
    objective: str
    ceiling: float
    max_skips: int

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        require(self.epochs >= 1, "training.epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "training.batch_size", self.batch_size, "at least 1")
        require(
            self.precision in PRECISIONS,
            "training.precision",
            self.precision,
            f"one of {', '.join(PRECISIONS)}",
        )
        require(self.device in DEVICES, "training.device", self.device, f"one of {', '.join(DEVICES)}")
        require(self.threads >= 0, "training.threads", self.threads, "0 (auto) or more")
        require(self.clip_norm > 0, "training.clip_norm", self.clip_norm, "above 0")
        require(0 < self.ceiling < float("inf"), "training.ceiling", self.ceiling, "finite and above 0")
        require(self.max_skips >= 1, "training.max_skips", self.max_skips, "at least 1")


@dataclass(frozen=True)
class OptimizerConfig:
    """The group `optimizer`: AdamW under a linear warm-up and a cosine."""

    name: str
    lr: float
    weight_decay: float
    beta1: float
    beta2: float
    warmup: float
    final_lr: float

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        require(self.name in OPTIMIZERS, "optimizer.name", self.name, f"one of {', '.join(OPTIMIZERS)}")
        require(0 < self.lr < float("inf"), "optimizer.lr", self.lr, "finite and above 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "at least 0")
        require(0 <= self.beta1 < 1, "optimizer.beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "optimizer.beta2", self.beta2, "in [0, 1)")
        require(0 <= self.warmup < 1, "optimizer.warmup", self.warmup, "in [0, 1)")
        require(0 <= self.final_lr <= 1, "optimizer.final_lr", self.final_lr, "in [0, 1]")
