"""Command: run one trial, on one GPU or the CPU, without Ray."""

import json
import math
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ristune import cli
from ristune.config import Config
from ristune.errors import InputError
from ristune.simulate import ensure_dataset
from ristune.tracking import track
from ristune.training.record import Record, Status
from ristune.training.trainer import Trainer
from ristune.trial import Trial, finite, prepare

EXAMPLES = """\
  python -m ristune.train
  python -m ristune.train training.epochs=60 optimizer.lr=2e-3 --out runs/longer
  python -m ristune.train --from runs/NAME/best.yaml training.epochs=100
  python -m ristune.train task=mine --config-dir my_configs"""
RECORDS = "records.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.train`."""
    return cli.run(_main, argv)


def read_best(path: Path) -> tuple[list[str], list[str]]:
    """Overrides and configuration folders of a `best.yaml`.

    Raises:
        InputError: if the file cannot be read as one.
    """
    try:
        content = yaml.safe_load(path.read_text())
        overrides, config_dirs = content["overrides"], content["config_dirs"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise InputError(
            "--from",
            str(path),
            f"it must be a YAML file with 'overrides' and 'config_dirs' ({type(error).__name__}: {error})",
            "give the best.yaml of a sweep, runs/NAME/best.yaml",
        ) from error
    return [str(text) for text in overrides], [str(text) for text in config_dirs]


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser(
        "train", "Run one trial: train, validate every epoch, keep the best epoch's weights.", EXAMPLES
    )
    parser.add_argument(
        "--from", dest="best", type=Path, metavar="best.yaml", help="start from a sweep's best values"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: OUTPUT/train-TASK-TIME)"
    )
    arguments = parser.parse_intermixed_args(argv)
    more: list[str] = []
    if arguments.best is not None:
        more, directories = read_best(arguments.best)
        arguments.config_dir = [*directories, *arguments.config_dir]
    config = cli.configure(arguments, more)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    name = f"train-{config.task['name']}-{time.strftime('%Y%m%d-%H%M%S')}"
    out = arguments.out or Path(config.output) / name
    if (out / RECORDS).exists():
        raise InputError("--out", str(out), "it must not hold an earlier training", "choose another folder")
    cli.check_writable("--out", out)
    console = cli.console()
    ensure_dataset(config, console)
    trial = prepare(config, console.print)
    trial.trainer.check_objective()
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(cli.show(config.resolved()))
    _introduce(trial, out, console)
    return _train(trial, out, console)


def _introduce(trial: Trial, out: Path, console: Console) -> None:
    parameters = sum(p.numel() for p in trial.task.network.parameters() if p.requires_grad)
    config = trial.config
    console.print(
        f"task {config.task['name']}: {parameters:,} parameters, {trial.train.rows} training and "
        f"{trial.val.rows} validation samples of {config.data.uri}\n"
        f"on {trial.train.device}, {trial.trainer.precision}, {config.training.epochs} epochs of "
        f"{len(trial.train)} steps, minimising {config.training.objective}; results in {out}",
    )


def _train(trial: Trial, out: Path, console: Console) -> int:
    total = trial.config.training.epochs * len(trial.train)
    record: Record | None = None
    started = time.monotonic()
    with (
        track(
            trial.config.tracking,
            out,
            name=out.name,
            group=out.name,
            values={},
            resolved=trial.config.resolved(),
        ) as run,
        (out / RECORDS).open("a") as records,
        _Bar(trial.trainer, total, console),
    ):
        try:
            for record in trial.run(out):
                row = finite(record.flat())
                records.write(json.dumps(row, allow_nan=False) + "\n")
                records.flush()
                run.log(row, step=record.epoch)
                if record.epoch == 1:
                    console.print(_header(record))
                console.print(_line(record, trial.config))
        except KeyboardInterrupt:
            console.print(_kept(record, out))
            raise
        run.finish({"objective": record.objective, "status": str(record.status)} if record else {})
    if record is None:
        raise RuntimeError("the trainer yielded no record")
    summary = {**finite(record.flat()), "seconds": time.monotonic() - started}
    (out / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    if record.status is Status.DIVERGED:
        console.print(f"diverged: {record.reason}")
    console.print(_kept(record, out))
    return cli.FAILED if record.status is Status.DIVERGED else cli.DONE


class _Bar(Progress):
    """A progress bar that reads how far the trainer is each time it is drawn."""

    def __init__(self, trainer: Trainer, total: int, console: Console) -> None:
        self._trainer = trainer
        super().__init__(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=console,
        )
        self.add_task("train", total=total)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Read the trainer, then draw."""
        for task in self.task_ids:
            self.update(task, completed=self._trainer.batches_seen)
        return super().get_renderables()


def _header(record: Record) -> str:
    return (
        f"{'epoch':>8} {'loss':>8}"
        + "".join(f" {name:>{_width(name)}}" for name in record.val)
        + f" {'lr':>8} {'s':>6}"
    )


def _line(record: Record, config: Config) -> str:
    metrics: Mapping[str, float] = record.val
    best = "*" if record.improved else " "
    figures = "".join(f" {value:{_width(name)}.4f}" for name, value in metrics.items())
    loss = record.train.get("loss", math.nan)
    skipped = f"  {record.skipped} steps skipped" if record.skipped else ""
    return (
        f"{record.epoch:>3}/{config.training.epochs:<3}{best} {loss:8.4f}{figures} {record.lr:8.1e} "
        f"{record.seconds:6.1f}{skipped}"
    )


def _width(name: str) -> int:
    """Of a metric's column: its name, or a figure."""
    return max(len(name), 7)


def _kept(record: Record | None, out: Path) -> str:
    if record is None or not record.best_epoch:
        return f"no finite validation yet: nothing is kept but {out / RECORDS}"
    return (
        f"best epoch {record.best_epoch}: {record.objective:.4f}, kept in {out / 'best'}\n"
        f"measure it: python -m ristune.evaluate --checkpoint {shlex.quote(str(out / 'best'))}"
    )


if __name__ == "__main__":
    sys.exit(main())
