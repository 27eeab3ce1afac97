"""Maximum likelihood beside the Cramer-Rao bound, cell by cell of SNR and number of sources.

Scenes are drawn by the configured simulator with a Rician factor of 3. The grid is only where searches start.
Ratios are sqrt(mean(error^2 / bound^2)) over the scenes in which every source is found within 1 degree in
both angles, each error by the bound of its own scene and symbols. Sources are counted without passes. A
scene is stuck if a search that is started at the truth ends at a smaller residual.

python -m benchmarks.likelihood [--scenes 300] [--passes 1] [--grid 3 13 23] [PATH=VALUE ...]
"""

import argparse
import statistics
import time

import numpy as np
import torch

from ristune.config import build, compose
from ristune.nearfield.bound import Sources, conditional_bound
from ristune.nearfield.codes import code_values
from ristune.nearfield.covariance import Grid, build_grid
from ristune.nearfield.likelihood import (
    LAST,
    PASSES,
    Dictionary,
    Observation,
    Region,
    count_sources,
    maximum_likelihood,
    pursue,
    refine,
    residual,
)
from ristune.nearfield.metrics import GATE_DEG, SUCCESS_DEG, Score, score
from ristune.nearfield.music import Estimates
from ristune.nearfield.scene import true_points
from ristune.nearfield.simulator import NearFieldSimulator

BATCH = 16
# By how much a residual must be above another to be told from it.
STUCK = 1 + 1e-4
# Sources are counted up to this many.
MOST = 6


def main() -> None:
    """Print a row a cell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--grid", type=int, nargs=3, default=(3, 13, 23), metavar=("W", "V", "U"))
    parser.add_argument("--snr", type=float, nargs="+", default=(0, 10, 20))
    parser.add_argument("--sources", type=int, nargs="+", default=(1, 2, 3, 5))
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    print(f"{arguments.scenes} scenes a cell, one thread, batches of {BATCH}, grid {tuple(arguments.grid)},")
    print(f"{arguments.passes} passes; success within {SUCCESS_DEG:g} deg, F1 at {GATE_DEG:g} deg")
    print(" SNR   K  success     F1  K right  stuck     az     el    1/r  ms a scene")
    for snr in arguments.snr:
        for sources in arguments.sources:
            cell = {
                "simulator.channel.kappa": [3, 3],
                "simulator.channel.snr_db": [snr, snr],
                "simulator.scene.num_sources": [sources, sources],
                "simulator.channel_dtype": "f4",
            }
            config = compose(arguments.overrides).with_values(cell)
            simulator = build(config.simulator)
            view = build(config.task["field_of_view"])
            grid = build_grid(simulator.geometry, tuple(arguments.grid), view.limits())
            print(f"{snr:4.0f} {sources:3d}  " + _row(simulator, grid, arguments), flush=True)


def _row(simulator: NearFieldSimulator, grid: Grid, arguments: argparse.Namespace) -> str:
    drawn, symbols = simulator.draw_known(arguments.scenes, np.random.default_rng(0))
    batch = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in drawn.items()}
    data = Observation(
        torch.view_as_complex(batch["y"]),
        torch.view_as_complex(batch["h"]),
        torch.from_numpy(code_values(simulator.codebook)).expand(arguments.scenes, -1, -1),
        batch["noise_var"],
    )
    region = Region(simulator.geometry, grid.points.amin(0), grid.points.amax(0))
    counts, parts, counted, seconds = batch["num_sources"], [], [], []
    for some in torch.arange(arguments.scenes).split(BATCH):
        few = data.of(some)
        started = time.perf_counter()
        parts.append(maximum_likelihood(few, counts[some], grid, region, arguments.passes))
        seconds.append((time.perf_counter() - started) / len(some))
        counted.append(count_sources(pursue(few, Dictionary(few, grid), MOST, region)[1], few))
    found = Estimates(torch.cat([p.points for p in parts]), torch.cat([p.found for p in parts]))
    truth = true_points(batch)
    result: Score = score(found, truth, counts)
    at = Sources(*(batch[name].double() for name in ("azimuth", "elevation", "range")))
    bound = conditional_bound(
        data.h, data.codes, at, torch.from_numpy(symbols), data.noise_var, simulator.geometry
    )
    ratios = "  ".join(f"{ratio:5.2f}" for ratio in result.bound_ratios(bound).values())
    least = refine(data, truth, region, LAST)[1]
    stuck = (residual(data, found.points, simulator.geometry) > STUCK * least).double().mean().item()
    right = (torch.cat(counted) == counts).double().mean().item()
    return (
        f"{result.success.mean():7.3f}  {result.f1:5.3f}  {right:7.3f}  {stuck:5.3f}  {ratios}  "
        f"{statistics.median(seconds) * 1e3:10.1f}"
    )


if __name__ == "__main__":
    main()
