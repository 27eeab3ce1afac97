"""Toy tasks that are not finite in ways that are hard to see."""

import torch
from torch import nn

from tests.toy import ToyTask


class Eigenvectors(ToyTask):
    """A subspace loss through differentiated eigenvectors, at a covariance that is the identity."""

    def loss(self, output, batch):
        covariance = torch.eye(4) + 0 * output.sum()
        _, vectors = torch.linalg.eigh(covariance)
        capture = vectors[:, :2].square().sum(1) * torch.arange(4.0)
        return {**super().loss(output, batch), "subspace": 0.002 * capture.sum()}


class Root(ToyTask):
    """The root of a mean square that is 0."""

    def loss(self, output, batch):
        rms = (0 * output).square().mean().sqrt()
        return {**super().loss(output, batch), "rms": rms}


class MaskedLog(ToyTask):
    """A logarithm of 0 that a mask hides in the value, and not in the gradient."""

    def loss(self, output, batch):
        shares = torch.relu(output) * (batch["target"] > 0)
        entropy = torch.where(shares > 0, shares.log(), 0).mean()
        return {**super().loss(output, batch), "entropy": entropy}


class Gain(nn.Module):
    def forward(self, features):
        return features * 1e5


class Overflow(ToyTask):
    """Activations beyond 65504: finite in FP32 and BF16, not in FP16."""

    def __init__(self, width, scale, explode, fail):
        super().__init__(width, scale, explode, fail)
        self.network.layers.insert(2, Gain())
        nn.init.constant_(self.network.layers[0].bias, 2.0)
