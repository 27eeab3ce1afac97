"""Loss terms by name, each weighted from the configuration."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield.covariance import Grid, Moments, Prediction, nmse, predicted_covariance
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.scene import true_points
from ristune.nearfield.terms import eigengap, missed_subspace, peak_error, rank

TERMS = ("nmse_pred", "nmse_blend", "eigengap", "subspace", "peaks")


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


def loss_terms(
    predicted: Prediction,
    grid: Grid,
    geometry: Geometry,
    of: Moments,
    batch: Mapping[str, Tensor],
    weights: Mapping[str, float],
    beta: float,
) -> dict[str, Tensor]:
    """Weighted terms with a weight above 0, each a scalar.

    Each is 0 at R_pred = R, but for `nmse_blend`, which is 0 at R_blend = R: at R_pred = R it keeps
    `(1 - beta)^2 ||R_samp - R||^2 / ||R||^2`, and its minimum lies where the prediction makes up for R_samp.

    Args:
        predicted: R_pred.
        grid: its grid.
        geometry: the surface.
        of: inner products of the batch.
        batch: prepared: `factor`, `azimuth`, `elevation`, `range`.
        weights: by term.
        beta: weight of R_pred in the blend.
    """
    factor = batch["factor"]

    def peaks() -> Tensor:
        present = batch["range"] > 0
        return peak_error(predicted, grid, true_points(batch), present, factor, geometry)

    terms: dict[str, Callable[[], Tensor]] = {
        "nmse_pred": lambda: nmse(of, 1.0),
        "nmse_blend": lambda: nmse(of, beta),
        "eigengap": lambda: eigengap(predicted_covariance(predicted, grid), rank(factor)),
        "subspace": lambda: missed_subspace(predicted, grid, factor),
        "peaks": peaks,
    }
    return {name: weight * terms[name]().mean() for name, weight in weights.items() if weight > 0}
