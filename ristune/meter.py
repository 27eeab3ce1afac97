"""How far a writing of samples is: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Seconds between two lines where there is no terminal.
PERIOD = 10.0


class Meter:
    """Counts samples and shows them; a context manager.

    Args:
        console: where to.
        label: what is being done.
        total: samples in all.
        period: seconds between two lines where there is no terminal.
    """

    def __init__(self, console: Console, label: str, total: int, period: float = PERIOD) -> None:
        self._console = console
        self._label = label
        self._total = total
        self._period = period
        self._count = 0
        self._started = self._shown = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} samples/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, rate="-")

    def __enter__(self) -> "Meter":
        """Start the clock."""
        self._started = self._shown = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    @property
    def rate(self) -> float:
        """Samples a second, since the start."""
        return self._count / max(self.seconds, 1e-9)

    def advance(self, count: int) -> None:
        """Take in that so many more samples are there."""
        self._count += count
        self._bar.update(self._task, completed=self._count, rate=f"{self.rate:.0f}")
        now = time.monotonic()
        if not self._console.is_terminal and now - self._shown >= self._period:
            self._shown = now
            left = duration((self._total - self._count) / self.rate) if self._count else "unknown time"
            done = f"{self._count} of {self._total} samples"
            self._console.print(f"{self._label}: {done}, {self.rate:.0f} samples/s, {left} left")


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
