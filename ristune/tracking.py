"""A Weights & Biases run, or a silent one, as a context manager; this module alone knows wandb."""

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from ristune.errors import InputError

MODES = ("auto", "online", "offline", "disabled")
Mode = Literal["online", "offline", "disabled"]
# Seconds for W&B's service to close a file, which takes it a millisecond.
PATIENCE = 30.0


@dataclass(frozen=True)
class TrackingConfig:
    """The group `tracking`."""

    mode: str
    project: str
    entity: str | None

    def __post_init__(self) -> None:
        """Check the mode.

        Raises:
            InputError: if it is none of `MODES`.
        """
        if self.mode not in MODES:
            raise InputError(
                "tracking.mode", self.mode, f"it must be one of {', '.join(MODES)}", "set tracking.mode"
            )


class Run(Protocol):
    """Where the rows of one trial go."""

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Log one record's flat values at its epoch."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Note how the trial ended."""
        ...


class _Silent:
    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Drop the row."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Drop the summary."""


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, row: Mapping[str, Any], step: int) -> None:
        # W&B draws a gap for a missing value; NaN in a summary breaks its sorting.
        self._run.log({k: v for k, v in row.items() if not _missing(v)}, step=step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))


def resolve_mode(mode: str) -> Mode:
    """The mode that `auto` means here: online with a key in the environment or netrc, else offline."""
    if mode != "auto":
        return cast(Mode, mode)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return "online" if netrc.is_file() and "wandb" in netrc.read_text() else "offline"


@contextmanager
def track(
    config: TrackingConfig,
    directory: Path,
    *,
    name: str,
    group: str,
    values: Mapping[str, Any],
    resolved: Mapping[str, Any],
    tags: Sequence[str] = (),
    more_follow: bool = False,
) -> Iterator[Run]:
    """One run, from the process that trains; its file is whole when the context ends.

    Args:
        config: mode, project, entity.
        directory: the run's files lie in `directory/wandb`.
        name: of the run.
        group: the sweep's name, or the training's.
        values: the searched values by path; shown flat.
        resolved: the whole configuration.
        tags: labels of the run.
        more_follow: whether this process will have further runs: W&B's service, which takes half a second to
            start, then lives on until `end_service`, and the list of installed packages is left out, which
            takes 0.1 s and is the same for all.
    """
    mode = resolve_mode(config.mode)
    if mode == "disabled":
        yield _Silent()
        return
    # Importing wandb costs half a second and 21 MB: only who logs pays.
    import wandb

    directory.mkdir(parents=True, exist_ok=True)
    with _service_ended_on_failure():
        run = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=mode,
            dir=str(directory),
            name=name,
            group=group,
            job_type="trial" if values else "train",
            tags=list(tags),
            config={**dict(values), "resolved": dict(resolved)},
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_meta=True,
                disable_git=True,
                x_save_requirements=not more_follow,
            ),
        )
    code = 1
    try:
        yield _Wandb(run)
        code = 0
    finally:
        with _service_ended_on_failure():
            run.finish(exit_code=code)
            _wait_until_written()
        if not more_follow:
            end_service(code)


def end_service(code: int = 0) -> None:
    """End W&B's service, if this process has one; a later run starts another.

    Args:
        code: with which runs end that have not been finished.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.teardown(exit_code=code)


def _wait_until_written() -> None:
    """Wait until a finished run's file is closed: `finish` returns before the last rows are in it."""
    import wandb

    setup = wandb.setup()
    service = setup.assert_service()
    # The service works in order: when it answers, that it knows no such upload, the run is closed.
    setup.asyncer.run(lambda: service.sync_status("none")).wait_or(timeout=PATIENCE)


@contextmanager
def _service_ended_on_failure() -> Iterator[None]:
    """A service that died or is silent is not left for the next run; its end waits for its files."""
    try:
        yield
    except BaseException:
        end_service(1)
        raise


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
