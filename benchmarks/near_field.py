"""Two limits of the near-field task on its validation split: the grid's own floor, and the oracle.

The floor is the least NMSE of `R_pred = sum_g gamma_g a_g a_g^H + floor I` over all non-negative maps, found
scene by scene from the true covariance by iteration, and so a little above what no network can be below. The
oracle is near-field MUSIC with refinement on R_true, told K: what the estimator itself loses.

python -m benchmarks.near_field [--scenes 256] [PATH=VALUE ...]
"""

import argparse

import torch
from torch import Tensor

from ristune.config import compose
from ristune.data.opening import measured_stream, open_configured
from ristune.nearfield.covariance import Grid, Prediction, nmse
from ristune.nearfield.geometry import cosines
from ristune.nearfield.loss import moments_of
from ristune.nearfield.measuring import Search
from ristune.nearfield.metrics import score
from ristune.nearfield.task import NearFieldTask
from ristune.trial import build_task

ITERATIONS = 2000


def best_map(grid: Grid, factor: Tensor) -> Prediction:
    """Non-negative least squares by multiplicative updates, the identity being one more atom."""
    n = factor.shape[1]
    true_map = torch.view_as_real(factor.mT @ grid.responses.mH).square().sum(-1).sum(1)
    target = torch.cat([true_map, torch.full((len(factor), 1), float(n))], dim=1)
    gram = torch.nn.functional.pad(grid.gram, (0, 1, 0, 1), value=float(n))
    shares = target / target.sum(1, keepdim=True)
    for _ in range(ITERATIONS):
        shares = shares * target / (shares @ gram)
    return Prediction(shares[:, :-1], shares[:, -1])


def independent_truth(batch: dict[str, Tensor], task: NearFieldTask) -> tuple[Tensor, Tensor]:
    """R_true from plain distances in FP64, and the sources it belongs to, (u, v, w).

    The labels are FP32, and so is the steering function: an estimator that rounds as the labels do finds them
    to the last bit. So the sources are moved by up to 1e-4 rad and m first.
    """
    generator = torch.Generator().manual_seed(0)
    present = batch["power"] > 0
    azimuth, elevation, distance = (
        batch[name].double() + 1e-4 * torch.rand(present.shape, generator=generator).double()
        for name in ("azimuth", "elevation", "range")
    )
    across = torch.cos(elevation)
    towards = [torch.cos(azimuth) * across, torch.sin(azimuth) * across, torch.sin(elevation)]
    places = distance[..., None] * torch.stack(towards, dim=-1)
    elements = task.geometry.elements().double()
    paths = torch.linalg.vector_norm(places[:, :, None] - elements, dim=-1) - distance[..., None]
    responses = torch.exp(-2j * torch.pi / task.geometry.wavelength * paths)
    weighted = responses * batch["power"].double().sqrt()[..., None]
    covariance = (weighted.mT @ weighted.conj()).to(torch.complex64)
    return covariance, cosines(azimuth, elevation, 1 / distance)


def main() -> None:
    """Print the floor and the oracle's errors by K."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args()
    config = compose(arguments.overrides)
    dataset = open_configured(config.data, print)
    task = build_task(config, dataset)
    assert isinstance(task, NearFieldTask)
    stream = measured_stream(config.data, dataset, "val", arguments.scenes, "cpu")
    batch = task.prepare(next(stream.epoch(0)))
    counts = batch["num_sources"]
    prediction = best_map(task.grid, batch["factor"])
    errors = nmse(moments_of(prediction, task.grid, batch), 1.0)
    covariance, truth = independent_truth(batch, task)
    located = Search(task).music(covariance, counts)
    print(f"{len(counts)} validation scenes of {config.data.uri}, grid {task.grid.shape}")
    print(
        f"{'K':>4} {'scenes':>7} {'grid floor NMSE':>16} {'oracle recall':>14} "
        f"{'~angle [deg]':>13} {'~range [m]':>11}"
    )
    for k in [*sorted(set(counts.tolist())), 0]:
        these = counts == k if k else counts > 0
        estimates = type(located)(located.points[these], located.found[these])
        row = score(estimates, truth[these], counts[these]).row()
        print(
            f"{k or 'all':>4} {int(these.sum()):>7} {errors[these].mean().item():>16.4f} "
            f"{row['recall']:>14.4f} {row['~angle']:>13.1e} {row['~range']:>11.1e}"
        )


if __name__ == "__main__":
    main()
