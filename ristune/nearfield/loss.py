"""Loss terms by name, each weighted from the configuration."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from ristune.errors import InputError
from ristune.nearfield.covariance import Grid, Moments, Prediction, moments, nmse, predicted_covariance
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.scene import true_points
from ristune.nearfield.terms import eigengap, misplaced, missed_subspace, peak_error, rank

TERMS = ("nmse_pred", "nmse_blend", "eigengap", "subspace", "location", "peaks", "count")


def prediction(output: Mapping[str, Tensor], stage: int = -1) -> Prediction:
    """The softmax of a stage's logits, `map` [B, stages, G + 1]: not negative, of sum 1, so of trace N."""
    shares = torch.softmax(output["map"][:, stage].float(), dim=1)
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


def moments_of(predicted: Prediction, grid: Grid, batch: Mapping[str, Tensor]) -> Moments:
    """Inner products of R_pred with `factor`, `snapshots`, `scale`, `diagonal`, `scaled_map` of a batch."""
    scaled = batch["snapshots"] * batch["scale"].unsqueeze(1)
    return moments(predicted, grid, batch["factor"], scaled, batch["diagonal"], batch["scaled_map"])


def loss_terms(
    output: Mapping[str, Tensor],
    grid: Grid,
    geometry: Geometry,
    batch: Mapping[str, Tensor],
    weights: Mapping[str, float],
    beta: float,
) -> dict[str, Tensor]:
    """Weighted terms with a weight above 0, each a scalar: the mean over scenes and the network's stages.

    Each of R_pred is 0 at R_pred = R, but for `nmse_blend`, which is 0 at R_blend = R: at R_pred = R it keeps
    `(1 - beta)^2 ||R_samp - R||^2 / ||R||^2`, and its minimum lies where the prediction makes up for R_samp.
    `count` is of K alone, and 0 where the network is sure of the right one.

    Args:
        output: of the network.
        grid: of its maps.
        geometry: the surface.
        batch: prepared; beside what `moments_of` takes its labels.
        weights: by term.
        beta: weight of R_pred in the blend.
    """
    factor, present, points = batch["factor"], batch["range"] > 0, true_points(batch)
    of_stage: dict[str, Callable[[Prediction], Tensor]] = {
        "nmse_pred": lambda predicted: nmse(moments_of(predicted, grid, batch), 1.0),
        "nmse_blend": lambda predicted: nmse(moments_of(predicted, grid, batch), beta),
        "eigengap": lambda predicted: eigengap(predicted_covariance(predicted, grid), rank(factor)),
        "subspace": lambda predicted: missed_subspace(predicted, grid, factor),
        "location": lambda predicted: misplaced(predicted, grid, points, batch["power"], geometry),
        "peaks": lambda predicted: peak_error(predicted, grid, points, present, factor, geometry),
    }
    stages = [prediction(output, stage) for stage in range(output["map"].shape[1])]

    def term(name: str) -> Tensor:
        if name == "count":
            return functional.cross_entropy(output["count"], batch["num_sources"].long() - 1)
        return torch.stack([of_stage[name](predicted).mean() for predicted in stages]).mean()

    return {name: weight * term(name) for name, weight in weights.items() if weight > 0}
