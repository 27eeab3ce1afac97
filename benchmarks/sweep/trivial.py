"""Stock Ray Tune, as its documentation has it, on trials that hardly train: what `overhead` runs beside ours.

    python -m benchmarks.sweep.trivial --trials 6 --epochs 9 --cores 2 --folder /tmp/x [--tracked] [--reuse]

A function trainable, OptunaSearch, ASHAScheduler and WandbLoggerCallback with their defaults, but that no
trial is stopped before its last epoch, so that all engines run the same. `overhead` runs it in a process of
its own. It prints a line of JSON: the seconds of Tune's loop, Ray's start and end left out, and how many
reports there were.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDTHS = (4, 16, 64)
ROWS = 64


def train(config: Mapping[str, Any]) -> None:
    """The tests' toy task by hand: a noisy sine, a batch of training and one of validation an epoch."""
    import torch
    from ray import tune
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.rand(2 * ROWS, 2) * 2 - 1
    target = torch.sin(3 * x[:, 0]) + x[:, 1] + 0.1 * torch.randn(2 * ROWS)
    network = nn.Sequential(nn.Linear(2, config["width"]), nn.Tanh(), nn.Linear(config["width"], 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config["lr"])
    for _ in range(config["epochs"]):
        optimizer.zero_grad()
        (network(x[:ROWS]).squeeze(-1) - target[:ROWS]).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            objective = (network(x[ROWS:]).squeeze(-1) - target[ROWS:]).square().mean().item()
        tune.report({"objective": objective})


def run(trials: int, epochs: int, cores: int, folder: Path, tracked: bool, reuse: bool) -> dict[str, float]:
    """Run a sweep; seconds from the first turn of Tune's loop to its end, and reports of all trials."""
    import ray
    from ray import tune
    from ray.air.integrations.wandb import WandbLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    class Clock(tune.Callback):
        """Listed last, so that the others have ended when it does."""

        first = last = 0.0

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.first = self.first or time.perf_counter()

        def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
            self.last = time.perf_counter()

    clock = Clock()
    tracker = [WandbLoggerCallback(project="overhead", mode="offline")] if tracked else []
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        train,
        param_space={
            "lr": tune.loguniform(1e-4, 1e-1),
            "width": tune.choice(list(WIDTHS)),
            "epochs": epochs,
        },
        tune_config=tune.TuneConfig(
            metric="objective",
            mode="min",
            num_samples=trials,
            max_concurrent_trials=cores,
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=epochs, grace_period=epochs),
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            name="stock", storage_path=str(folder), callbacks=[*tracker, clock], verbose=0
        ),
    )
    results = tuner.fit()
    reports = sum(len(result.metrics_dataframe) for result in results)
    ray.shutdown()
    return {"seconds": clock.last - clock.first, "reports": reports}


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep.trivial", description=__doc__)
    for name in ("trials", "epochs", "cores"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tracked", action="store_true")
    parser.add_argument("--reuse", action="store_true")
    arguments = parser.parse_args()
    os.environ |= {"WANDB_MODE": "offline", "RAY_USAGE_STATS_ENABLED": "0"}
    print(json.dumps(run(**vars(arguments))))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
