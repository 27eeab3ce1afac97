"""The near-field task: recover the covariance at the surface from coded snapshots at a base station."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ristune.errors import InputError
from ristune.nearfield import checking, evaluation, ideal, picture
from ristune.nearfield.codes import PER_SAMPLE, PHASES, code_values
from ristune.nearfield.covariance import (
    beamspace,
    best_constant,
    build_grid,
    constant_error,
    identity,
    nmse,
)
from ristune.nearfield.geometry import Geometry
from ristune.nearfield.likelihood import Observation
from ristune.nearfield.loss import check_weights, loss_terms, moments_of, prediction
from ristune.nearfield.network import BeamspaceNetwork
from ristune.nearfield.recovery import SampleOptions, recover
from ristune.nearfield.scene import covariance_factor, true_points
from ristune.nearfield.terms import misplaced
from ristune.nearfield.view import FieldOfView, check_scenes

Batch = dict[str, Tensor]
LABELS = ("azimuth", "elevation", "range", "power", "phase")
# Enough scenes for the best constant: its error falls as 1 / count.
CONSTANT_SCENES = 4096
# Of the NMSE in `map_error`: docs/benchmarks/near-field.md, the objective.
NMSE_WEIGHT = 0.5


class Dataset(Protocol):
    """What the task needs of a dataset."""

    @property
    def uri(self) -> str:
        """Where it lies."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What it was drawn from."""
        ...

    def rows(self, split: str) -> int:
        """Samples of a split."""
        ...

    def table(self, name: str) -> Mapping[str, Tensor]:
        """A side table, whole."""
        ...

    def split(self, name: str, columns: Sequence[str], limit: int | None) -> Mapping[str, Tensor]:
        """Columns of the first `limit` rows of a split."""
        ...


class NearFieldTask:
    """Network, loss and metrics of the near-field localisation task.

    Args:
        geometry: the surface; the dataset's must equal it.
        field_of_view: bounds of the grid.
        grid: points by 1 / range, v and u.
        max_sources: the largest K; the dataset's must not be above it.
        network: arguments of `BeamspaceNetwork`.
        loss: weights by term.
        beta: weight of the prediction in R_blend.
        beta_jitter: in training the weight is drawn uniformly from beta +- this, within [0, 1], a batch.
        sample: arguments of `SampleOptions`.
    """

    def __init__(
        self,
        geometry: Geometry,
        field_of_view: FieldOfView,
        grid: Sequence[int],
        max_sources: int,
        network: Mapping[str, int],
        loss: Mapping[str, float],
        beta: float,
        beta_jitter: float,
        sample: Mapping[str, Any],
    ) -> None:
        check_weights(loss)
        if not 0 <= beta <= 1:
            raise InputError("task.beta", beta, "it must be in [0, 1]", "set task.beta")
        if not 0 <= beta_jitter <= 1:
            raise InputError("task.beta_jitter", beta_jitter, "it must be in [0, 1]", "set task.beta_jitter")
        if len(grid) != 3 or min(grid) < 2:
            raise InputError(
                "task.grid", list(grid), "it must be three counts of at least 2", "set task.grid"
            )
        self.geometry = geometry
        self.field_of_view = field_of_view
        self.grid = build_grid(geometry, (grid[0], grid[1], grid[2]), field_of_view.limits())
        if max_sources < 2:
            raise InputError("task.max_sources", max_sources, "it must be at least 2", "set task.max_sources")
        self.max_sources = max_sources
        self.network = BeamspaceNetwork(self.grid, max_sources, **network)
        self._network = dict(network)
        self.weights = dict(loss)
        self.beta = beta
        self.beta_jitter = beta_jitter
        self._sample = SampleOptions(**sample)
        self._codes = torch.empty(0)
        self._unit_modulus = True
        self._constant = torch.empty(0)
        self.source_model = "iid"
        self._exact = True

    def attach(self, dataset: Dataset) -> None:
        """Take codebooks and source model from the dataset, and the best constant from its training labels.

        Raises:
            InputError: if it was drawn for another surface.
        """
        check_scenes(dataset.uri, dataset.parameters, self.geometry, self.field_of_view, self.max_sources)
        self.source_model = str(dataset.parameters["scene"]["source_model"])
        known = dataset.parameters["channel"]["channel_error_db"] is None
        self._exact = known and dataset.parameters["position_jitter"] == 0
        if dataset.parameters["codes"]["family"] != PER_SAMPLE:
            codebooks = {name: column.numpy() for name, column in dataset.table("codebooks").items()}
            self._codes = torch.from_numpy(code_values(codebooks))
            self._unit_modulus = "gain" not in codebooks
        count = min(CONSTANT_SCENES, dataset.rows("train"))
        labels = dataset.split("train", columns=LABELS, limit=count)
        self._constant = best_constant(self._factor(labels))

    def prepare(self, batch: Batch) -> Batch:
        """The sample covariance, its beamspace map and the factor of the true covariance, in FP32.

        Adds `codes` and `snapshots` [B, L, N], `scale` and `diagonal` [B, N], `scaled_map` [B, G], `jittered`
        [B], `factor` [B, N, K] and, divided by N, `sample_map` [B, G] and `ridge` [B].
        """
        device = batch["y"].device
        self._to(device)
        data = self.observation(batch)
        found = recover(data.y, data.h, data.codes, data.noise_var, self._unit_modulus, self._sample)
        sample_map = beamspace(found.snapshots, self.grid)
        scaled_map = sample_map / (1 + self._sample.loading)
        if self._sample.debias:
            scaled_map = beamspace(found.snapshots * found.scale.unsqueeze(1), self.grid)
        return {
            **batch,
            "codes": data.codes,
            "snapshots": found.snapshots,
            "scale": found.scale,
            "diagonal": found.diagonal,
            "scaled_map": scaled_map,
            "sample_map": sample_map / self.geometry.size,
            "ridge": found.ridge / self.geometry.size,
            "jittered": found.jittered,
            "factor": self._factor(batch),
        }

    def loss(self, output: Batch, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms of the network's logits; see `ristune.nearfield.loss`."""
        return loss_terms(output, self.grid, self.geometry, batch, self.weights, self._drawn_beta())

    def truth(self, batch: Batch) -> tuple[Batch, Batch]:
        """An output that is exactly right for scenes made up on the grid; see `ristune.nearfield.ideal`."""
        self._to(batch["y"].device)
        return ideal.scenes(batch, self.prepare(batch), self.grid, self.max_sources, len(self.network.stages))

    def metrics(self, output: Batch, batch: Batch) -> dict[str, Tensor]:
        """Covariance errors of the network, and of R_samp, R = I and the best constant beside them; [B] each.

        `misplaced` is a loss term, `map_error` its sum with a share of the NMSE of R_pred: where power lies,
        and how much of it. `jittered` is 1 where ridge recovery has a factor only with jitter.
        """
        predicted = prediction(output)
        away = misplaced(predicted, self.grid, true_points(batch), batch["power"], self.geometry)
        of = moments_of(predicted, self.grid, batch)
        floor = moments_of(identity(len(batch["factor"]), self.grid), self.grid, batch)
        return {
            "map_error": away + NMSE_WEIGHT * nmse(of, 1.0),
            "nmse_pred": nmse(of, 1.0),
            "nmse_blend": nmse(of, self.beta),
            "nmse_samp": nmse(of, 0.0),
            "nmse_floor": nmse(floor, 1.0),
            "nmse_constant": constant_error(self._constant, batch["factor"], of.true_true),
            "misplaced": away,
            "jittered": batch["jittered"].float(),
            "count_right": (output["count"].argmax(1) + 1 == batch["num_sources"]).float(),
        }

    def untrained(self) -> BeamspaceNetwork:
        """A network as it is before training: what of a result is not learned."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BeamspaceNetwork(self.grid, self.max_sources, **self._network)

    def observation(self, batch: Batch) -> Observation:
        """What an estimator is given: snapshots, channel, codes, noise."""
        y, h = torch.view_as_complex(batch["y"]), torch.view_as_complex(batch["h"].float())
        return Observation(y, h, self.codes(batch), batch["noise_var"])

    def evaluate(
        self, batches: Iterable[Batch], predict: Callable[[Batch], tuple[Batch, Batch]], scenes: int
    ) -> evaluation.Findings:
        """Tables and figures of a test split; see `ristune.nearfield.evaluation`."""
        return evaluation.evaluate(self, batches, predict, scenes)

    def cell_values(self, values: Mapping[str, float]) -> dict[str, Any]:
        """The simulator's values, by path, for scenes of one SNR (`snr`, dB) and number of sources (`k`)."""
        return evaluation.cell_values(values, self.max_sources)

    def evaluate_cells(
        self,
        cells: Mapping[str, Iterable[Batch]],
        predict: Callable[[Batch], tuple[Batch, Batch]],
        scenes: int,
    ) -> evaluation.Findings:
        """Tables and figures of scenes by cell; see `ristune.nearfield.evaluation`."""
        return evaluation.evaluate_cells(self, cells, predict, scenes)

    def check_sample(self, batch: Batch) -> list[str]:
        """What is wrong with rows as they are stored, on the CPU; see `ristune.nearfield.checking`."""
        codes, factor = self.codes(batch), self._factor(batch)
        return checking.check(batch, codes, factor, self.source_model, self._exact)

    def draw_sample(self, sample: Mapping[str, Tensor], axes: Any) -> None:
        """Draw one row as it is stored, on matplotlib axes; see `ristune.nearfield.picture`."""
        batch = {name: column.unsqueeze(0) for name, column in sample.items()}
        picture.draw(batch, self.codes(batch), self.geometry, self.field_of_view.limits(), axes)

    def codes(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The codes of each snapshot, [B, L, N], complex64: the sample's own, or those of its codebook."""
        if "code" in batch:
            phase = batch["code"].float() * (2 * math.pi / PHASES)
            return torch.polar(torch.ones_like(phase), phase)
        return self._codes[batch["codebook"].long()]

    def _drawn_beta(self) -> float:
        if not self.beta_jitter:
            return self.beta
        drawn = self.beta + self.beta_jitter * (2 * torch.rand(()).item() - 1)
        return min(1.0, max(0.0, drawn))

    def _factor(self, batch: Mapping[str, Tensor]) -> Tensor:
        return covariance_factor(
            batch["azimuth"],
            batch["elevation"],
            batch["range"],
            batch["power"],
            batch["phase"],
            self.geometry,
            self.source_model,
        )

    def check_cell(self, parameters: Mapping[str, Any]) -> None:
        """Refuse scenes that are not of the kind which the network was trained with.

        Args:
            parameters: of the simulator that is to draw them.

        Raises:
            InputError: if surface, field of view, number of sources or source model do not fit.
        """
        uri = "the simulator of --cells"
        check_scenes(uri, parameters, self.geometry, self.field_of_view, self.max_sources)
        model = parameters["scene"]["source_model"]
        if model != self.source_model:
            rule = f"it must be that of the dataset, {self.source_model}"
            raise InputError("simulator.scene.source_model", model, rule, "train on such scenes")

    def _to(self, device: torch.device) -> None:
        if self._codes.device != device:
            self._codes, self._constant = self._codes.to(device), self._constant.to(device)
        self.grid = self.grid.to(device)
