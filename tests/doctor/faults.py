"""The toy task with a fault planted in each; `task._target_=tests.doctor.faults.NAME` chooses one."""

import torch
from torch import Tensor, nn

from tests.toy import ToyTask

Batch = dict[str, Tensor]


class _Layers(nn.Module):
    """The toy's network, to be broken."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, batch: Batch) -> Tensor:
        output: Tensor = self.layers(batch["x"]).squeeze(-1)
        return output


class Faulty(ToyTask):
    broken: type[nn.Module] | None = None

    def __init__(self, width: int, scale: float, explode: bool, fail: bool) -> None:
        super().__init__(width, scale, explode, fail)
        if self.broken is not None:
            self.network = self.broken(width)

    def terms(self, output: Tensor) -> dict[str, Tensor]:
        return {}

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {**super().loss(output, batch), **self.terms(output)}


class Sound(Faulty):
    broken = _Layers


class _Detached(_Layers):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch).detach() + self.bias


class Detached(Faulty):
    """The optimizer steps, and the layers never change."""

    broken = _Detached


class _HalfUnused(_Layers):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.forgotten = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))


class HalfUnused(Faulty):
    broken = _HalfUnused


class _Idle(_Layers):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.idle = nn.Parameter(torch.ones(width, width))

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) + 0 * self.idle.sum()


class Idle(Faulty):
    """A gradient that is there and zero: weight decay alone moves the parameter."""

    broken = _Idle


class ZeroTerm(Faulty):
    def terms(self, output: Tensor) -> dict[str, Tensor]:
        return {"extra": 0 * output.square().mean()}


class Swallowed(Faulty):
    def terms(self, output: Tensor) -> dict[str, Tensor]:
        try:
            raise ValueError("a shape that did not fit")
        except ValueError:
            return {"extra": torch.zeros(())}


class Constant(Faulty):
    """A term of some value that nothing can learn from."""

    def terms(self, output: Tensor) -> dict[str, Tensor]:
        return {"extra": output.detach().square().mean()}


class Eigenvector(Faulty):
    """Eigenvectors of equal eigenvalues: a finite value, a gradient of NaN."""

    def terms(self, output: Tensor) -> dict[str, Tensor]:
        _, vectors = torch.linalg.eigh(torch.eye(3) + 0 * output.mean())
        return {"extra": vectors.abs().sum()}


class Offset(Faulty):
    """The loss is minimal beside the truth."""

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"squared": (output - batch["target"] - 0.5).square().mean()}


class RootAtTruth(Faulty):
    """A loss that is minimal at the truth, where its gradient is NaN."""

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"root": (output - batch["target"]).square().mean().sqrt()}


class _Bias(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, batch: Batch) -> Tensor:
        return self.bias.expand(len(batch["x"]))


class Bias(Faulty):
    """The same prediction for every sample."""

    broken = _Bias


class Mismatched(Faulty):
    """Output i is compared with label i + 1."""

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return super().loss(output.roll(1, 0), batch)

    # An exactly right output would have to be rolled too.
    truth = None  # type: ignore[assignment]


class AsksGrad(Faulty):
    """Another input in training than in validation."""

    def prepare(self, batch: Batch) -> Batch:
        return {**batch, "x": batch["x"] * (1.5 if torch.is_grad_enabled() else 1.0)}


class AsksMode(Faulty):
    def prepare(self, batch: Batch) -> Batch:
        return {**batch, "extra": batch["x"]} if self.network.training else batch


class _GradInForward(_Layers):
    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) * (1.5 if torch.is_grad_enabled() else 1.0)


class GradInForward(Faulty):
    broken = _GradInForward


class _Unsaved(_Layers):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.shift = torch.randn(())

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) + self.shift


class Unsaved(Faulty):
    """A drawn tensor that is neither a parameter nor a buffer."""

    broken = _Unsaved


class NoEffect(Faulty):
    """`scale`, which is searched, enters nothing."""

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"squared": (output - batch["target"]).square().mean()}


class Weighted(Faulty):
    """The loss weight enters the objective."""

    def metrics(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"mse": self.scale * (output - batch["target"]).square()}


class Raises(Faulty):
    """An exception in the loss, once the first batches went well."""

    calls = 0

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("planted in the loss")
        return super().loss(output, batch)


class RareSkip(Faulty):
    """One window in eight is not finite: too few to end the training."""

    calls = 0

    def loss(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        self.calls += self.network.training
        factor = float("inf") if self.calls % 8 == 5 and self.network.training else 1.0
        return {"squared": factor * (output - batch["target"]).square().mean()}


class Conditional(Faulty):
    """`scale` counts only where `explode` is chosen."""

    def __init__(self, width: int, scale: float, explode: bool, fail: bool) -> None:
        super().__init__(width, scale, False, fail)
        self.scale = scale if explode else 1.0


class Patient(Faulty):
    """`fail` does nothing."""

    def __init__(self, width: int, scale: float, explode: bool, fail: bool) -> None:
        super().__init__(width, scale, explode, False)


class Bounded(Faulty):
    """A wide network takes a small scale only."""

    def __init__(self, width: int, scale: float, explode: bool, fail: bool) -> None:
        super().__init__(width, scale, explode, fail)
        if width * scale > 10:
            raise RuntimeError("too much")


class Elsewhere(Faulty):
    """A term whose gradient reaches a tensor that nobody optimises."""

    def __init__(self, width: int, scale: float, explode: bool, fail: bool) -> None:
        super().__init__(width, scale, explode, fail)
        self.loose = torch.ones((), requires_grad=True)

    def terms(self, output: Tensor) -> dict[str, Tensor]:
        return {"extra": self.loose * 2}
