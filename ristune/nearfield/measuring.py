"""Estimators side by side on the same scenes: what each found, how near the bound, and what it costs."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ristune.nearfield.bound import Bound, Sources, conditional_bound, unconditional_bound
from ristune.nearfield.covariance import blend, build_grid, identity, predicted_covariance, sample_covariance
from ristune.nearfield.estimators import (
    EXCHANGED,
    HYBRID,
    HYBRID_COUNTED,
    MAXIMUM_LIKELIHOOD,
    ML_COUNTED,
    SPARSE,
    Estimators,
    Localises,
    Located,
    timed,
)
from ristune.nearfield.geometry import positions
from ristune.nearfield.likelihood import Observation, Region
from ristune.nearfield.loss import prediction
from ristune.nearfield.metrics import Score, score
from ristune.nearfield.music import Estimates, music
from ristune.nearfield.scene import true_points

Batch = dict[str, Tensor]
Predict = Callable[[Batch], tuple[Batch, Batch]]
# MUSIC's search grid is this many times finer in u and v than the network's.
SEARCH_REFINEMENT = 2
# Scenes that are located together, by every estimator: larger batches leave the processor's caches.
TOGETHER = 16
PREDICTED, BLENDED = "MUSIC: network R_pred", "MUSIC: network R_blend"
ORACLE = "MUSIC: ORACLE R_true"
# What needs the network's output, what needs nothing of it; all others need ridge recovery.
BY_NETWORK = (PREDICTED, BLENDED, HYBRID, HYBRID_COUNTED)
BY_LIKELIHOOD = (MAXIMUM_LIKELIHOOD, EXCHANGED, ML_COUNTED, SPARSE, ORACLE)


class Measured(Localises, Protocol):
    """What is needed of the task."""

    beta: float
    source_model: str

    @property
    def field_of_view(self) -> Any:
        """Bounds of the estimates."""
        ...

    def prepare(self, batch: Batch) -> Batch:
        """Ridge recovery."""
        ...

    def metrics(self, output: Batch, batch: Batch) -> dict[str, Tensor]:
        """Covariance errors by name, [B]."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Estimators on the same scenes.

    Attributes:
        errors: the task's metrics by name, [A] each, of all scenes.
        all_counts: K of all scenes, [A].
        all_snr_db: their SNR, dB, [A].
        scores: by estimator, over the first B scenes.
        milliseconds: a scene, by estimator, with all that it needs.
        separation: angle from each source to the next one, [B, K], degrees; infinite where there is none.
        bound: of the true sources, [B, K], for the standard deviation of any unbiased estimator.
    """

    errors: dict[str, Tensor]
    all_counts: Tensor
    all_snr_db: Tensor
    scores: dict[str, Score]
    milliseconds: dict[str, float]
    separation: Tensor
    bound: Bound

    @property
    def counts(self) -> Tensor:
        """K of the scenes that were localised, [B]."""
        return self.all_counts[: len(self.separation)]

    @property
    def snr_db(self) -> Tensor:
        """Their SNR, dB, [B]."""
        return self.all_snr_db[: len(self.separation)]


def compare(task: Measured, batches: Iterable[Batch], predict: Predict, scenes: int) -> Comparison:
    """Run every estimator on the same scenes.

    Args:
        task: the task.
        batches: samples.
        predict: a batch to the network's output and the prepared batch.
        scenes: how many are localised; the covariance errors use every one.
    """
    errors: dict[str, list[Tensor]] = defaultdict(list)
    located: dict[str, list[Located]] = defaultdict(list)
    labels: list[Batch] = []
    bounds: list[Bound] = []
    truths: list[Tensor] = []
    search, estimators = Search(task), Estimators(task, task.field_of_view.limits())
    left, ridge, network = scenes, 0.0, 0.0
    for batch in batches:
        output, prepared = predict(batch)
        for name, values in task.metrics(output, prepared).items():
            errors[name].append(values.cpu())
        labels.append({name: prepared[name].cpu() for name in ("num_sources", "snr_db")})
        some_left = min(left, len(prepared["y"]))
        for start in range(0, some_left, TOGETHER):
            few = {name: values[start : min(start + TOGETHER, some_left)] for name, values in batch.items()}
            # Computed again in the batches that estimators have: this is what is timed.
            ridge += _seconds(partial(task.prepare, dict(few)))
            started = time.perf_counter()
            said, some = predict(few)
            # To be copied, it must have been computed.
            said["map"].cpu()
            network += time.perf_counter() - started
            for locate in (search.locate, estimators.locate):
                for name, found in locate(said, some).items():
                    located[name].append(found)
            truths.append(true_points(some).cpu())
            bounds.append(true_bound(task, task.observation(some), some))
        left -= some_left
    joined = {name: torch.cat([part[name] for part in labels]) for name in labels[0]}
    truth = torch.cat(truths)
    own = {name: sum(part.seconds for part in parts) for name, parts in located.items()}
    return Comparison(
        {name: torch.cat(parts) for name, parts in errors.items()},
        joined["num_sources"],
        joined["snr_db"],
        {name: _score(parts, truth, joined["num_sources"]) for name, parts in located.items()},
        {name: 1e3 * (own[name] + _before(name, ridge, network)) / len(truth) for name in own},
        _separation(truth, joined["num_sources"]),
        Bound(*(torch.cat(parts) for parts in zip(*(vars(each).values() for each in bounds), strict=True))),
    )


def true_bound(task: Measured, data: Observation, batch: Batch) -> Bound:
    """The Cramer-Rao bound of labelled scenes, [B, K_max], NaN for absent sources; on the CPU.

    It is the unconditional one for `iid` symbols, which no column tells, and the conditional one of constant
    symbols for `static` sources.
    """
    host = Observation(data.y.cpu(), data.h.cpu(), data.codes.cpu(), data.noise_var.cpu())
    columns = ("azimuth", "elevation", "range", "power", "phase")
    labels = {name: batch[name].cpu().double() for name in columns}
    counts = batch["num_sources"].cpu()
    shape = labels["azimuth"].shape
    result = Bound(*(torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(5)))
    for count in sorted(set(counts.tolist())):
        some = torch.nonzero(counts == count).squeeze(1)
        few, values = host.of(some), {name: column[some, :count] for name, column in labels.items()}
        sources = Sources(values["azimuth"], values["elevation"], values["range"])
        if task.source_model == "static":
            symbols = torch.polar(values["power"].sqrt(), values["phase"]).unsqueeze(1)
            of = conditional_bound(few.h, few.codes, sources, symbols, few.noise_var, task.geometry)
        else:
            power = values["power"]
            of = unconditional_bound(few.h, few.codes, sources, power, few.noise_var, task.geometry)
        for name, column in vars(of).items():
            getattr(result, name)[some, :count] = column
    return result


class Search:
    """Near-field MUSIC on every covariance that is compared, with one fixed search grid."""

    def __init__(self, task: Measured) -> None:
        w, v, u = task.grid.shape
        limits = task.field_of_view.limits()
        shape = (w, SEARCH_REFINEMENT * v, SEARCH_REFINEMENT * u)
        self._task = task
        self._grid = build_grid(task.geometry, shape, limits, gram=False)
        self._region = Region.within(task.geometry, limits)

    def locate(self, output: Batch, batch: Batch) -> dict[str, Located]:
        """Estimates by name of the covariance, for the scenes of a prepared batch."""
        task, counts = self._task, batch["num_sources"]
        self._grid = self._grid.to(counts.device)

        def sample() -> Tensor:
            scaled = batch["snapshots"] * batch["scale"].unsqueeze(1)
            return sample_covariance(scaled, batch["diagonal"])

        def predicted() -> Tensor:
            return predicted_covariance(prediction(output), task.grid)

        def untrained() -> Tensor:
            return predicted_covariance(identity(len(counts), task.grid), task.grid)

        candidates: dict[str, Callable[[], Tensor]] = {
            "MUSIC: floor, R_pred = I": lambda: blend(untrained(), sample(), task.beta),
            "MUSIC: R_samp (ridge)": sample,
            PREDICTED: predicted,
            BLENDED: lambda: blend(predicted(), sample(), task.beta),
            ORACLE: lambda: batch["factor"] @ batch["factor"].mH,
        }
        return {name: timed(partial(self._from, matrix, counts)) for name, matrix in candidates.items()}

    def _from(self, covariance: Callable[[], Tensor], num_sources: Tensor) -> Estimates:
        return self.music(covariance(), num_sources)

    def music(self, covariance: Tensor, num_sources: Tensor) -> Estimates:
        """Sources of covariances, [B, N, N], told how many there are."""
        grid, region = self._grid.to(covariance.device), self._region.to(covariance.device)
        return music(covariance, num_sources, grid, region.geometry, region.low, region.high)


def _before(name: str, ridge: float, network: float) -> float:
    """Seconds that an estimator needs before it starts."""
    if name in BY_NETWORK:
        return network
    return 0.0 if name in BY_LIKELIHOOD else ridge


def _seconds(prepare: Callable[[], Batch]) -> float:
    started = time.perf_counter()
    prepare()["sample_map"].cpu()
    return time.perf_counter() - started


def _score(parts: list[Located], truth: Tensor, num_sources: Tensor) -> Score:
    found = [part.estimates for part in parts]
    # Batches differ in their largest K: pad to the widest before they are joined.
    most = max(part.points.shape[1] for part in found)
    pad = torch.nn.functional.pad
    joined = Estimates(
        torch.cat([pad(part.points, (0, 0, 0, most - part.points.shape[1])) for part in found]),
        torch.cat([pad(part.found, (0, most - part.found.shape[1])) for part in found]),
    )
    return score(joined, truth, num_sources)


def _separation(truth: Tensor, num_sources: Tensor) -> Tensor:
    """The angle from each source to the nearest other one of its scene, [B, K], degrees."""
    towards = torch.nn.functional.normalize(positions(truth.double()), dim=-1)
    chord = torch.cdist(towards, towards, compute_mode="donot_use_mm_for_euclid_dist")
    angle = torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1)))
    absent = torch.arange(truth.shape[1]) >= num_sources[: len(truth), None]
    alone = torch.eye(truth.shape[1], dtype=torch.bool) | absent.unsqueeze(1) | absent.unsqueeze(2)
    return angle.masked_fill(alone, torch.inf).amin(-1)
