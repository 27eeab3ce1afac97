"""Command: run one trial, on one GPU or the CPU, without Ray."""

import argparse
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ristune import cli
from ristune.config import Config, restore
from ristune.errors import InputError
from ristune.overrides import RESUMABLE, check_resumable
from ristune.simulate import ensure_dataset
from ristune.stopping import asked_to_stop
from ristune.tracking import track
from ristune.training import dump, resume
from ristune.training.memory import out_of_memory
from ristune.training.record import Record, Status
from ristune.training.tensors import trainable
from ristune.training.trainer import Trainer
from ristune.trial import Trial, finite, prepare

EXAMPLES = """\
  python -m ristune.train
  python -m ristune.train training.epochs=60 optimizer.lr=2e-3 --out runs/longer
  python -m ristune.train --from runs/NAME/best.yaml training.epochs=100
  python -m ristune.train --resume runs/NAME           # go on with a training that was stopped
  python -m ristune.train task=mine --config-dir my_configs"""
RECORDS, SUMMARY = "records.jsonl", "summary.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.train`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser(
        "train", "Run one trial: train, validate every epoch, keep the best epoch's weights.", EXAMPLES
    )
    cli.add_from(parser, "start from a sweep's best values")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: OUTPUT/train-TASK-TIME)"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with the training in DIR, from where it was stopped"
    )
    arguments = parser.parse_intermixed_args(argv)
    if arguments.resume is not None:
        return _resume(arguments)
    config, _ = cli.configure_from(arguments)
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
    try:
        trial.trainer.check_objective()
    except (RuntimeError, MemoryError) as error:
        # The training itself says so, in its record.
        if not out_of_memory(error):
            raise
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(cli.show(config.resolved()))
    _introduce(trial, out, console)
    return _train(trial, out, console)


def _resume(arguments: argparse.Namespace) -> int:
    """Go on with a training, as it was configured."""
    out, console = arguments.resume, cli.console()
    given = {"--from": arguments.best, "--out": arguments.out, "--config-dir": arguments.config_dir or None}
    for option, value in given.items():
        if value is not None:
            rule = "a training is resumed in its own folder, with its own configuration"
            raise InputError(option, str(value), rule, f"leave out {option}, or start anew without --resume")
    check_resumable(arguments.overrides, "training", RESUMABLE)
    if _status(out) == Status.COMPLETE:
        rule = "this training is complete, there is nothing to go on with"
        raise InputError("--resume", str(out), rule, "train anew for longer with --out")
    saved = resume.newest(out, console.print)
    config = restore(saved.state["source"], arguments.overrides, saved.state["config_dirs"])
    config = replace(config, overrides=(*saved.state["overrides"], *config.overrides))
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    trial = prepare(config, console.print)
    found, wanted = trial.dataset.dataset_id, saved.state["dataset_id"]
    if found != wanted:
        rule = f"it must be the dataset of the training, id {wanted[:12]}, and has the id {found[:12]}"
        raise InputError("data.uri", config.data.uri, rule, "give that dataset, or start anew")
    resume.restore(saved, trial.trainer)
    progress = trial.trainer.progress
    # What was reported after the state was kept is trained, and reported, again.
    _keep_records(out / RECORDS, progress.epoch)
    batches = f", after {progress.done} of its batches" if progress.done else ""
    console.print(f"resumed in epoch {progress.epoch} of {config.training.epochs}{batches}")
    _introduce(trial, out, console)
    return _train(trial, out, console)


def _keep_records(path: Path, before: int) -> None:
    """Drop the records of an epoch that is trained again, and a line that was cut off."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["epoch"] < before:
            kept.append(line + "\n")
    new = path.with_suffix(".new")
    new.write_text("".join(kept))
    os.replace(new, path)


def _status(out: Path) -> str:
    """How the training in a folder ended; empty if it has not."""
    path = out / SUMMARY
    return str(json.loads(path.read_text())["status"]) if path.exists() else ""


def _introduce(trial: Trial, out: Path, console: Console) -> None:
    parameters = sum(p.numel() for p in trainable(trial.task.network).values())
    config = trial.config
    console.print(
        f"task {config.task['name']}: {parameters:,} parameters, {trial.train.rows} training and "
        f"{trial.val.rows} validation samples of {config.data.uri}\n"
        f"on {trial.train.device}, {trial.trainer.precision}, {config.training.epochs} epochs, "
        f"{trial.trainer.total_batches} batches, minimising {config.training.objective}; results in {out}",
    )


def _train(trial: Trial, out: Path, console: Console) -> int:
    record: Record | None = None
    first = True
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
        asked_to_stop("stopping after this step") as stopping,
        _Bar(trial.trainer, console),
    ):
        for record in trial.run(out, resumable=True, stopping=stopping):
            row = finite(record.flat())
            records.write(json.dumps(row, allow_nan=False) + "\n")
            records.flush()
            # A state that is kept must not be newer than its records.
            os.fsync(records.fileno())
            run.log(row, step=record.epoch)
            if first:
                console.print(_header(record))
                first = False
            for line in _lines(record, trial.config):
                console.print(line)
        run.finish({"objective": record.objective, "status": str(record.status)} if record else {})
    if record is None or record.status is Status.RUNNING:
        console.print(_kept(record, out))
        console.print(f"go on: python -m ristune.train --resume {shlex.quote(str(out))}")
        return cli.INTERRUPTED
    summary = {**finite(record.flat()), "seconds": time.monotonic() - started}
    (out / SUMMARY).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    if record.status is Status.COMPLETE:
        resume.drop(out)
    if record.status is not Status.COMPLETE:
        console.print(f"{record.status}: {record.reason}")
    console.print(_kept(record, out))
    if (out / dump.FOLDER).is_dir():
        console.print(f"what was not finite: python -m ristune.doctor --replay {out / dump.FOLDER}")
    return cli.DONE if record.status is Status.COMPLETE else cli.FAILED


class _Bar(Progress):
    """A progress bar that reads how far the trainer is each time it is drawn."""

    def __init__(self, trainer: Trainer, console: Console) -> None:
        self._trainer = trainer
        super().__init__(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("batches"),
            TimeRemainingColumn(),
            console=console,
        )
        self.add_task("train", total=trainer.total_batches)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Read the trainer, then draw."""
        for task in self.task_ids:
            self.update(task, completed=self._trainer.progress.batches)
        return super().get_renderables()


def _header(record: Record) -> str:
    return (
        f"{'epoch':>8} {'loss':>8}"
        + "".join(f" {name:>{_width(name)}}" for name in record.val)
        + f" {'lr':>8} {'s':>6}"
    )


def _lines(record: Record, config: Config) -> Iterator[str]:
    metrics: Mapping[str, float] = record.val
    best = "*" if record.improved else " "
    figures = "".join(f" {value:{_width(name)}.4f}" for name, value in metrics.items())
    loss = record.train.get("loss", math.nan)
    yield (
        f"{record.epoch:>3}/{config.training.epochs:<3}{best} {loss:8.4f}{figures} {record.lr:8.1e} "
        f"{record.seconds:6.1f}"
    )
    if record.cause:
        yield f"        {record.skipped} of {record.windows} steps skipped so far; the last: {record.cause}"
    for column, batches in record.inputs.items():
        yield f"        column {column!r} holds NaN or infinity in {batches} batches that were looked at"
    dead = record.diagnosis.dead
    if dead:
        yield f"        {len(dead)} parameters had no gradient in this epoch: {', '.join(dead[:3])}"


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
