"""The windows of one training epoch: differentiate, settle the window before, update."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from ristune.training.config import TrainingConfig
from ristune.training.curriculum import Stage
from ristune.training.forward import forward, total_loss
from ristune.training.memory import out_of_memory
from ristune.training.rng import Generators, RandomState
from ristune.training.step import Attempt, GuardedStep, StepResult
from ristune.training.task import Batch
from ristune.training.tensors import rows_of
from ristune.training.totals import Totals, bad_columns
from ristune.training.watcher import Failure, Watcher


@dataclass
class Progress:
    """How far a training is; plain values.

    Attributes:
        epoch: under way, from 1.
        done: batches of it that were trained.
        batches: seen since the start.
        steps: taken since the start.
        skipped: windows skipped since the start.
        in_a_row: faults since the last step taken.
        failed: whether there was a fault since the start.
    """

    epoch: int = 1
    done: int = 0
    batches: int = 0
    steps: int = 0
    skipped: int = 0
    in_a_row: int = 0
    failed: bool = False


@dataclass(frozen=True)
class Window:
    """Batches whose gradients make one step.

    Attributes:
        batches: columns as stored.
        random: the generators before them.
        number: in its epoch, from 0.
        last: whether the epoch ends with it.
    """

    batches: Sequence[Batch]
    random: RandomState
    number: int
    last: bool

    @property
    def sizes(self) -> list[int]:
        """Samples of each batch."""
        return [rows_of(batch) for batch in self.batches]


class WindowLoop:
    """Trains epochs, window by window.

    Args:
        network: which is trained.
        step: its guarded step.
        config: accumulation, and when a training counts as diverged.
        precision: of the network's autocast.
        device: where batches lie.
        progress: moved on with each window that is settled.
    """

    def __init__(
        self,
        network: nn.Module,
        step: GuardedStep,
        config: TrainingConfig,
        precision: str,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._network = network
        self._step = step
        self._config = config
        self._precision = precision
        self._device = device
        self._progress = progress

    def run(self, stage: Stage, totals: Totals, watcher: Watcher) -> tuple[str, bool]:
        """Train what is left of an epoch.

        Args:
            stage: of the curriculum.
            totals: of the epoch.
            watcher: may pause it, is told of the first fault.

        Returns:
            Why it diverged, empty if not; and whether it was paused.
        """
        started = time.perf_counter()
        self._network.train()
        under_way: tuple[Attempt, Window] | None = None
        reason, paused = "", False
        most = self._config.max_skip_share * -(-len(stage.train) // self._config.accumulate)
        with closing(self._windows(stage, totals)) as windows:
            for window in windows:
                try:
                    losses, terms = self._differentiate(stage, window, totals)
                except (RuntimeError, MemoryError) as error:
                    # The step of the window before was taken all the same.
                    if under_way and out_of_memory(error):
                        self._settle(*under_way, totals, watcher, most)
                    raise
                if under_way:
                    reason, under_way = self._settle(*under_way, totals, watcher, most), None
                if reason:
                    break
                if totals.watch is not None and window.last:
                    totals.watch.keep_weights()
                attempt = self._step.update(losses, terms)
                if totals.watch is not None:
                    totals.watch.add(attempt)
                under_way = attempt, window
                # At its last window an epoch goes on to its validation.
                paused = not window.last and watcher.pause()
                if paused:
                    break
        if under_way:
            reason = self._settle(*under_way, totals, watcher, most)
        totals.seconds += time.perf_counter() - started
        return reason, paused and not reason

    def _windows(self, stage: Stage, totals: Totals) -> Generator[Window, None, None]:
        number = self._progress.done // self._config.accumulate
        left = len(stage.train) - self._progress.done
        generators = Generators(self._device)
        with closing(stage.train.epoch(self._progress.epoch, self._progress.done)) as batches:
            while left > 0:
                waiting = time.perf_counter()
                taken = list(islice(batches, self._config.accumulate))
                totals.waiting += time.perf_counter() - waiting
                left -= len(taken)
                yield Window(taken, generators.capture(), number, left <= 0)
                number += 1

    def _differentiate(
        self, stage: Stage, window: Window, totals: Totals
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Gradients of the window's sample-weighted mean loss; the losses and terms of its batches."""
        self._step.begin()
        if self._checks_inputs(window):
            for batch in window.batches:
                totals.check_inputs(batch)
        sizes = window.sizes
        losses, named = [], []
        for batch, size in zip(window.batches, sizes, strict=True):
            output, prepared = forward(stage.task, batch, self._precision, self._device)
            terms = stage.task.loss(output, prepared)
            loss = total_loss(terms)
            self._step.backward(loss, size / sum(sizes))
            losses.append(loss.detach())
            named.append({name: term.detach() for name, term in terms.items()})
        return losses, named

    def _checks_inputs(self, window: Window) -> bool:
        every = self._config.check_inputs
        if self._progress.epoch == 1:
            return True
        return every > 0 and window.number % every == 0

    def _settle(self, attempt: Attempt, window: Window, totals: Totals, watcher: Watcher, most: float) -> str:
        """Count a window; why the training has diverged with it, empty if it has not."""
        progress, config = self._progress, self._config
        result = self._step.settle(attempt)
        totals.add(result, window.sizes)
        progress.batches += len(window.batches)
        progress.done += len(window.batches)
        if result.taken:
            progress.steps += 1
            progress.in_a_row = 0
            return ""
        progress.skipped += 1
        totals.cause = ", ".join(filter(None, [bad_columns(window.batches), result.reason]))
        if result.calibrating:
            return ""
        progress.in_a_row += 1
        totals.failed += 1
        if not progress.failed:
            progress.failed = True
            watcher.failed(self._failure(attempt, window, result, totals.cause))
        if progress.in_a_row >= config.max_skips:
            return f"{progress.in_a_row} steps in a row were skipped: {totals.cause}"
        if totals.failed > most:
            rule = f"more than training.max_skip_share={config.max_skip_share:g} of an epoch's steps"
            return f"{rule} were skipped: {totals.cause}"
        return ""

    def _failure(self, attempt: Attempt, window: Window, result: StepResult, cause: str) -> Failure:
        # Buffers that are not part of the state are made by the network itself.
        weights = self._network.state_dict()
        return Failure(
            epoch=self._progress.epoch,
            window=self._progress.steps + self._progress.skipped,
            cause=cause,
            precision=self._precision,
            scale=result.scale,
            batches=window.batches,
            weights={name: attempt.buffers.get(name, tensor) for name, tensor in weights.items()},
            random=window.random,
        )
