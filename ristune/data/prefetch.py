"""Work done ahead by threads, its results in order."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from ristune.data.layout import Rows
from ristune.data.threads import Daemons

Result = TypeVar("Result")


def ahead(
    jobs: Iterator[Callable[[], Result]], threads: int, abandon: Callable[[], None]
) -> Iterator[Result]:
    """Run jobs in threads, a little ahead of who takes the results.

    Args:
        jobs: what to run; taken from the iterator by the caller's thread, in order.
        threads: how many run at once; with 0 each job runs when its result is asked for.
        abandon: called when no more results are wanted, so that jobs under way need not wait for what they
            wait for.

    Yields:
        The results in the order of the jobs; an exception of a job is raised in its place.
    """
    if threads == 0:
        for job in jobs:
            yield job()
        return
    workers = Daemons(threads, "ristune-prefetch")
    pending: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            pending.append(workers.submit(job))
            # One is ahead even of a single thread; more would only push each other out of the CPU's cache.
            if len(pending) >= max(2, threads):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        abandon()
        workers.shutdown(cancel_futures=True)


def moved(batches: Iterator[Rows], device: torch.device) -> Iterator[Tensor]:
    """Batches on a device, not the CPU.

    On a GPU the next batch is copied by a stream of its own while the last one is used.

    Args:
        batches: samples, [B, width], uint8, in pinned memory if the device is a GPU.
        device: where to.

    Yields:
        The same there.
    """
    if device.type != "cuda":
        for batch in batches:
            yield torch.from_numpy(batch).to(device)
        return
    stream = _copies(device)
    # The host's memory must not be lent to another batch before the copy out of it has been made.
    under_way: deque[tuple[torch.cuda.Event, Rows]] = deque()
    sent: tuple[Tensor, torch.cuda.Event] | None = None
    try:
        for batch in batches:
            with torch.cuda.stream(stream):
                there = torch.from_numpy(batch).to(device, non_blocking=True)
                copied = torch.cuda.Event()
                copied.record(stream)
            under_way.append((copied, batch))
            while under_way and under_way[0][0].query():
                under_way.popleft()
            if sent is not None:
                yield _received(*sent)
            sent = there, copied
        if sent is not None:
            yield _received(*sent)
    finally:
        # Also of an epoch that is left early: the memory that is copied from is lent to the next one.
        stream.synchronize()


@cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    """The stream for copies to a device: one for all epochs, since memory is kept for each stream."""
    return torch.cuda.Stream(device)


def _received(batch: Tensor, copied: torch.cuda.Event) -> Tensor:
    """Make the stream that uses a batch wait for its copy, and keep its memory until that use is over."""
    user = torch.cuda.current_stream(batch.device)
    user.wait_event(copied)
    batch.record_stream(user)
    return batch
