"""Which validation metric a sweep should minimise: one that ranks as the test F1 of the hybrid does.

Configurations are drawn at random from the wide space and trained alike; of each final network the candidates
are taken on the validation split, and the F1 at 3 degrees of its peaks, refined by the likelihood and told K,
on the test split. No searched value enters any candidate. Printed are Spearman's correlation over all
configurations and Kendall's over the better half by test F1, both signed so that 1 is the best, and what a
candidate costs, as a share of an epoch.

python -m benchmarks.objective DATA [--configurations 24] [--scenes 1024] [PATH=VALUE ...]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import torch
from scipy.stats import kendalltau, spearmanr

from ristune.config import Config, compose
from ristune.data.opening import measured_stream
from ristune.nearfield.estimators import HYBRID, Estimators
from ristune.nearfield.metrics import score
from ristune.nearfield.scene import true_points
from ristune.sweep.space import suggest
from ristune.sweep.space_parsing import parse_space
from ristune.training.device import resolve_device
from ristune.training.forward import forward
from ristune.training.record import Status
from ristune.trial import Trial, prepare

# Validation scenes of the candidate that is an F1 itself.
FEW = 256
# Candidates that the task measures itself.
OWN = ("map_error", "nmse_pred", "misplaced", "count_right")
# Candidates that are better when larger.
RISING = ("count_right", f"hybrid F1, {FEW} scenes")


def main() -> None:
    """Print a line a configuration, then a line a candidate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="dataset; simulated if there is none")
    parser.add_argument("--configurations", type=int, default=24)
    parser.add_argument("--scenes", type=int, default=1024)
    parser.add_argument("--first", type=int, default=0, help="the first one of them that is trained")
    parser.add_argument("--out", type=Path, help="also append a JSON line a configuration")
    parser.add_argument("--from", dest="earlier", type=Path, nargs="+", help="only correlate such lines")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE")
    arguments = parser.parse_intermixed_args()
    if arguments.earlier:
        lines = [json.loads(line) for path in arguments.earlier for line in path.read_text().splitlines()]
        _print_correlations(lines)
        return
    base = compose([f"data.uri={arguments.data}", "space=wide", *arguments.overrides])
    sampler = optuna.samplers.RandomSampler(seed=0)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study, space = optuna.create_study(sampler=sampler), parse_space(base)
    lines = []
    for number in range(arguments.configurations):
        values = suggest(space, study.ask())
        if number < arguments.first:
            continue
        line = {"values": values, **_measure(base.with_values(values), arguments.scenes)}
        lines.append(line)
        print(number, json.dumps(line), flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
    _print_correlations(lines)


def _measure(config: Config, scenes: int) -> dict[str, object]:
    trial = prepare(config, lambda line: None)
    records = list(trial.run())
    last = records[-1]
    if last.status is not Status.COMPLETE:
        return {"failed": str(last.status), "reason": last.reason}
    own = {name: last.val[name] for name in OWN}
    few, seconds = _timed(lambda: _hybrid_f1(trial, "val", FEW))
    return {
        "candidates": {**own, f"hybrid F1, {FEW} scenes": few},
        "cost": seconds / last.seconds,
        "epoch": last.seconds,
        "test": _hybrid_f1(trial, "test", scenes),
    }


def _timed(function: Callable[[], float]) -> tuple[float, float]:
    started = time.perf_counter()
    return function(), time.perf_counter() - started


def _hybrid_f1(trial: Trial, split: str, scenes: int) -> float:
    task, config, network = trial.task, trial.config, trial.trainer.network
    device = resolve_device(config.training.device)
    estimators = Estimators(task, task.field_of_view.limits())
    hit = total = 0
    for batch in measured_stream(config.data, trial.dataset, split, 32, device, limit=scenes).epoch(0):
        with torch.no_grad():
            output, prepared = forward(task, batch, "fp32", device, network)
        counts = prepared["num_sources"]
        found = estimators.hybrid(output, task.observation(prepared), counts)
        of = score(found, true_points(prepared), counts)
        hit, total = hit + int(of.hit.sum()), total + int((of.truths + of.estimates).sum())
    return 2 * hit / total


def _print_correlations(lines: list[dict[str, object]]) -> None:
    failed = [line for line in lines if "failed" in line]
    lines = [line for line in lines if "failed" not in line]
    test = np.array([line["test"] for line in lines])
    better = test >= np.median(test)
    print(f"{len(failed)} trainings did not end well and are left out")
    print(f"{len(lines)} configurations, test F1 of '{HYBRID}' {test.min():.3f} to {test.max():.3f}")
    print(f"{'candidate':28s} Spearman  Kendall, better half")
    for name in lines[0]["candidates"]:
        values = np.array([line["candidates"][name] for line in lines])
        values = values if name in RISING else -values
        overall = spearmanr(values, test).statistic
        half = kendalltau(values[better], test[better]).statistic
        print(f"{name:28s} {overall:8.3f}  {half:8.3f}")
    cost = np.median([line["cost"] for line in lines])
    print(f"'{RISING[1]}' takes {100 * cost:.0f} % of an epoch (median)")


if __name__ == "__main__":
    main()
