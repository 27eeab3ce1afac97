"""Loss terms by name, each weighted from the configuration."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.covariance import Moments, Prediction, nmse

TERMS = ("nmse_pred", "nmse_blend")


def prediction(logits: Tensor) -> Prediction:
    """The softmax of the network's logits, [B, G + 1]: non-negative, summing to 1, so that the trace is N."""
    shares = torch.softmax(logits.float(), dim=1)
    return Prediction(shares[:, :-1], shares[:, -1])


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights of unknown terms, negative ones, and none at all.

    Raises:
        InputError: naming the weight.
    """
    for name, weight in weights.items():
        if name not in TERMS or not 0 <= weight < float("inf"):
            raise InputError(
                f"task.loss.{name}",
                weight,
                f"a term is one of {', '.join(TERMS)}, a weight at least 0",
                "correct it",
            )
    if not any(weights.values()):
        raise InputError(
            "task.loss", dict(weights), "at least one weight must be above 0", "set task.loss.nmse_pred"
        )


def loss_terms(of: Moments, weights: Mapping[str, float], beta: float) -> dict[str, Tensor]:
    """Weighted terms with a weight above 0, each a scalar.

    `nmse_pred` is 0 at R_pred = R. `nmse_blend` is 0 at R_blend = R; at R_pred = R it keeps
    `(1 - beta)^2 ||R_samp - R||^2 / ||R||^2`, and its minimum lies where the prediction makes up for R_samp.

    Args:
        of: inner products of the batch.
        weights: by term.
        beta: weight of R_pred in the blend.
    """
    betas = {"nmse_pred": 1.0, "nmse_blend": beta}
    return {name: weight * nmse(of, betas[name]).mean() for name, weight in weights.items() if weight > 0}
