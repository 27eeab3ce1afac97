"""Distributed hyper-parameter optimisation for PyTorch training on a GPU cluster."""

__version__ = "0.1.0"
