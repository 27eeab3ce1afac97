"""Where the epochs go when 17 % of a space diverges: ristune's sweep beside stock Ray Tune.

    python -m benchmarks.sweep.divergence [--seeds 0 1 2] [--margins 0.05 0.2] [--sampler tpe] [PATH=VALUE]

Both search the space of `planted.py`, whose best point lies just outside the region that diverges, at a
margin, and whose trainings fall the faster the nearer they are to it. A margin of 0.05 is a rate 0.15
decades, a factor of 1.4, below one that diverges. Ours is the command, on a real Ray: its trainer meets a
loss that is not finite. Stock is `tune.Tuner` with `OptunaSearch` and `ASHAScheduler` as they come, and a
function that reports the same errors, NaN among them, epoch by epoch. Counted are the epochs of all trials,
those that were run at or after the trial's first loss that was not finite (the epoch in which it came is
one of them), and how many of the values proposed after trial 50 lie in the region. Of windows, the
optimizer's, ours runs no more than 20 of a diverged epoch's 64.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import ray
import yaml
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.sweep import planted

ROOT = Path(__file__).parents[2]
CONFIGS = Path(__file__).parent / "configs"
# Proposals up to here may be made without knowing the region.
LEARNT = 50
# A process is used for the next trial too: that changes no count, and saves a second of each.
REUSED = True


@dataclass
class Seen:
    """What one study has done.

    Attributes:
        proposed: the values of each trial, in order.
        errors: of each trial, what it reported epoch by epoch; None or NaN once it has diverged.
        windows: of each trial, its optimizer windows, and those of them that were not finite.
    """

    proposed: dict[str, Mapping[str, float]] = field(default_factory=dict)
    errors: dict[str, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    windows: dict[str, tuple[int, int]] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        """The counts."""
        epochs = sum(len(errors) for errors in self.errors.values())
        lost = sum(len(errors) - _sound(errors) for errors in self.errors.values())
        late = [planted.onset(values) > 0 for values in list(self.proposed.values())[LEARNT:]]
        finite = [e for errors in self.errors.values() for e in errors if e is not None and math.isfinite(e)]
        windows = [sum(each) for each in zip(*self.windows.values(), strict=True)] or [epochs, lost]
        return {
            "trials": len(self.proposed),
            "in the region": sum(planted.onset(values) > 0 for values in self.proposed.values()),
            "epochs": epochs,
            "of them diverged": lost,
            "%": 100 * lost / epochs,
            "% of windows": 100 * windows[1] / windows[0],
            f"% of proposals after {LEARNT} in the region": 100 * sum(late) / max(1, len(late)),
            "best error": min(finite),
        }


def _sound(errors: Sequence[float | None]) -> int:
    """How many epochs came before the first loss that was not finite."""
    for number, error in enumerate(errors):
        if error is None or not math.isfinite(error):
            return number
    return len(errors)


def ours(seed: int, margin: float, arguments: argparse.Namespace, folder: Path) -> Seen:
    """Run ristune's command, and read its journal."""
    name = f"ours-{margin}-{seed}"
    command = [
        *(sys.executable, "-m", "ristune.sweep", "--name", name, "--trials", str(arguments.trials)),
        *("--config-dir", str(CONFIGS), "task=planted", "space=planted", f"data.uri={folder / 'data'}"),
        *(f"data.cache={folder / 'cache'}", f"output={folder}", "training.device=cpu"),
        *(f"training.epochs={planted.EPOCHS}", f"sweep.seed={seed}", f"task.margin={margin}"),
        *(f"sweep.sampler={arguments.sampler}", "tracking.mode=disabled", *arguments.overrides),
    ]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if asked.returncode:
        raise RuntimeError(f"the sweep ended with {asked.returncode}:\n{asked.stdout}\n{asked.stderr}")
    seen = Seen()
    for line in (folder / name / "journal" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "asked":
            seen.proposed[event["trial"]] = {k.split(".")[-1]: v for k, v in event["values"].items()}
        if event["event"] == "reported":
            record = event["record"]
            seen.errors[event["trial"]].append(record["value"])
            seen.windows[event["trial"]] = (record["windows"], record["skipped"])
    return seen


class Watch(Callback):
    """Notes what stock Tune's trials were given and have reported."""

    def __init__(self) -> None:
        self.seen = Seen()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note the values of all trials there are, in the order in which they were made."""
        for each in trials:
            self.seen.proposed[each.trial_id] = each.config

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        """Note an epoch."""
        self.seen.errors[trial.trial_id].append(result["error"])


def stock(seed: int, margin: float, trials: int, folder: Path) -> Seen:
    """Run stock Tune with Optuna and ASHA, on the same space and errors."""
    watch = Watch()
    tune.Tuner(
        tune.with_resources(tune.with_parameters(_train, margin=margin), {"cpu": 1}),
        param_space=_space(),
        tune_config=tune.TuneConfig(
            metric="error",
            mode="min",
            num_samples=trials,
            search_alg=OptunaSearch(seed=seed),
            scheduler=ASHAScheduler(max_t=planted.EPOCHS),
            reuse_actors=REUSED,
        ),
        run_config=tune.RunConfig(
            name=f"stock-{margin}-{seed}", storage_path=str(folder), callbacks=[watch], verbose=0
        ),
    ).fit()
    return watch.seen


def _train(config: Mapping[str, float], margin: float) -> None:
    for epoch in range(1, planted.EPOCHS + 1):
        tune.report({"error": planted.error(config, epoch, margin)})


def _space() -> dict[str, Any]:
    text = (CONFIGS / "space" / "planted.yaml").read_text()
    return {
        path.split(".")[-1]: (tune.loguniform if given.get("log") else tune.uniform)(
            given["low"], given["high"]
        )
        for path, given in yaml.safe_load(text).items()
    }


def table(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Medians over the seeds, with the lowest and the highest, in Markdown."""
    names = list(next(iter(rows.values()))[0])
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for study, found in rows.items():
        cells = [_cell([row[name] for row in found]) for name in names]
        lines.append(f"| {study} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.4g}" if low == high else f"{middle:.4g} ({low:.4g} to {high:.4g})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run both with each seed and margin, and print the table."""
    arguments = _parser().parse_intermixed_args(argv)
    studies = [(margin, seed) for margin in arguments.margins for seed in arguments.seeds]
    rows: dict[str, list[dict[str, float]]] = {}
    # Ray's sockets lie below its own folder, and a path of theirs must be short.
    with tempfile.TemporaryDirectory() as name:
        for margin, seed in studies:
            seen = ours(seed, margin, arguments, Path(name))
            _note(rows, f"ristune, {arguments.sampler}, margin {margin:g}", seed, seen)
        if not arguments.without_stock:
            os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "PYTHONPATH": str(ROOT)}
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            warnings.simplefilter("ignore")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            for margin, seed in studies:
                seen = stock(seed, margin, arguments.trials, Path(name))
                _note(rows, f"OptunaSearch + ASHAScheduler, margin {margin:g}", seed, seen)
            ray.shutdown()
    print(f"\n{table(rows)}")
    return 0


def _note(rows: dict[str, list[dict[str, float]]], study: str, seed: int, seen: Seen) -> None:
    rows.setdefault(study, []).append(seen.row())
    counts = ", ".join(f"{name} {value:.4g}" for name, value in rows[study][-1].items())
    print(f"{study}, seed {seed}: {counts}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep.divergence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    parser.add_argument("--margins", type=float, nargs="+", default=[0.05, 0.2], help="default: 0.05 0.2")
    parser.add_argument("--trials", type=int, default=150, metavar="N", help="a study (default: 150)")
    parser.add_argument("--sampler", default="tpe", help="ours; stock has its own (default: tpe)")
    parser.add_argument("--without-stock", action="store_true", help="run ours alone")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of our configuration")
    return parser


if __name__ == "__main__":
    sys.exit(main())
