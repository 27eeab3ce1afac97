"""Small tasks with one fault each, and what the investigation says of them."""

from pathlib import Path

import torch
from torch import nn

from ristune.training.culprit import Finding, investigate

CPU = torch.device("cpu")


class Planted:
    """A task of parts: a network of one column `x`, [B, 4], a loss, and perhaps `prepare`."""

    def __init__(self, network, loss, prepare=None):
        self.network = network
        self.loss = loss
        if prepare is not None:
            self.prepare = prepare

    def metrics(self, output, batch):
        return {}


class OnX(nn.Module):
    """Runs its body on the column `x`."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, batch):
        return self.body(batch["x"])


def linear(outputs=4):
    """A linear network of four inputs whose weights are the same each time."""
    torch.manual_seed(0)
    return OnX(nn.Linear(4, outputs))


def zero(outputs=4):
    """A network that gives zeros, and has a gradient."""
    network = linear(outputs)
    nn.init.zeros_(network.body.weight)
    nn.init.zeros_(network.body.bias)
    return network


class Ratio(nn.Module):
    """Divides by zero."""

    def forward(self, x):
        return x / (x - x)


def mean(output, batch):
    """A loss of one innocent term."""
    return {"mean": output.mean()}


def batch(rows=8, **columns):
    generator = torch.Generator().manual_seed(1)
    return {"x": torch.rand(rows, 4, generator=generator), **columns}


def found(task, *batches, precision="fp32", scale=1.0) -> list[Finding]:
    return investigate(task, batches or (batch(),), precision, CPU, scale)


def line_of(file: str, code: str) -> str:
    """`file.py:12`, where the only line that begins with `code` stands."""
    lines = Path(file).read_text().splitlines()
    (number,) = (n for n, line in enumerate(lines, 1) if line.strip().startswith(code))
    return f"{Path(file).name}:{number}"
