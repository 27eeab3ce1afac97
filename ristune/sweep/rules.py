"""When a trial is stopped: successive halving in one bracket or several, the median rule, or never."""

import bisect
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ristune.errors import InputError
from ristune.sweep.history import History
from ristune.sweep.reports import sound
from ristune.sweep_config import SweepConfig

# The median rule stops nobody before so many others have come as far.
ENOUGH = 3


@dataclass(frozen=True)
class Judgement:
    """What a rule says of a report.

    Attributes:
        rung: epoch of the rung, or of the report where a rule has no rungs.
        bracket: in which the trial is.
        cutoff: the highest objective that goes on; None for the first at a rung.
        noted: whether the journal has to keep it even if the trial goes on: the rule is made of it again.
    """

    rung: int
    bracket: int
    cutoff: float | None
    noted: bool = True


class Rule(Protocol):
    """Judges sound reports: each has a finite objective from a finite validation."""

    def judge(self, trial: str, epoch: int, objective: float) -> Judgement | None:
        """Take in a report; None where nothing is to be decided."""
        ...

    def recall(self, history: History) -> None:
        """Take in what a journal says, before the first report."""
        ...

    def describe(self) -> str:
        """How things stand, in a line."""
        ...


def make_rule(config: SweepConfig, levels: Sequence[int]) -> Rule:
    """The configured rule.

    Args:
        config: `scheduler`, `reduction`, `grace` and the seed of brackets.
        levels: epochs after which a trial may be stopped, ascending.
    """
    if config.scheduler == "none" or not levels:
        return Never()
    if config.scheduler == "median":
        return Median(levels[0])
    return Halving(levels, config.reduction, config.seed, brackets=config.scheduler == "hyperband")


class Rung:
    """Who reported what at a rung; quantiles cost the same however many were there.

    Attributes:
        objectives: by trial.
    """

    def __init__(self) -> None:
        self.objectives: dict[str, float] = {}
        self._ordered: list[float] = []

    def enter(self, trial: str, objective: float) -> None:
        """Record a trial that was not there."""
        self.objectives[trial] = objective
        bisect.insort(self._ordered, objective)

    def quantile(self, share: float) -> float:
        """Between the two nearest objectives in proportion, as NumPy's default does; one must be there.

        Args:
            share: of the objectives that lie below, in [0, 1].
        """
        place = share * (len(self._ordered) - 1)
        below = self._ordered[math.floor(place)]
        return below + (place - math.floor(place)) * (self._ordered[math.ceil(place)] - below)


class Halving:
    """Asynchronous successive halving: one in `reduction` of those that reach a rung goes on.

    A trial goes on while it is among the best share of those who were at the rung before it (Li et al., A
    System for Massively Parallel Hyperparameter Tuning, 2020). Several brackets are those of Hyperband (Li
    et al., 2018, Algorithm 1), each beginning a rung later than the one before, the last without any. A
    trial's bracket is drawn from the seed and its number, so that it is the same when the sweep is resumed.

    Args:
        levels: the rungs' epochs, ascending.
        reduction: one in so many goes on.
        seed: of the brackets.
        brackets: whether there is more than one.

    Attributes:
        rungs: for each bracket, by epoch, ascending.
    """

    def __init__(self, levels: Sequence[int], reduction: int, seed: int = 0, brackets: bool = False) -> None:
        self._reduction = reduction
        self._seed = seed
        self._brackets: dict[str, int] = {}
        count = len(levels) + 1 if brackets else 1
        self.rungs = [{level: Rung() for level in levels[bracket:]} for bracket in range(count)]
        # Of Hyperband's brackets the one with s rungs begins with eta**s / (s + 1) configurations.
        left = len(levels) - np.arange(count)
        begun = float(reduction) ** left / (left + 1)
        self._shares = begun / begun.sum()

    def bracket(self, trial: str) -> int:
        """The bracket of a trial."""
        if len(self.rungs) == 1:
            return 0
        if trial not in self._brackets:
            rng = np.random.default_rng([self._seed, *trial.encode()])
            self._brackets[trial] = int(rng.choice(len(self.rungs), p=self._shares))
        return self._brackets[trial]

    def judge(self, trial: str, epoch: int, objective: float) -> Judgement | None:
        """Record an objective at the highest rung reached; None below the first, and the second time."""
        bracket = self.bracket(trial)
        reached = [level for level in self.rungs[bracket] if level <= epoch]
        if not reached or trial in self.rungs[bracket][reached[-1]].objectives:
            return None
        rung = self.rungs[bracket][reached[-1]]
        cutoff = rung.quantile(1 / self._reduction) if rung.objectives else None
        rung.enter(trial, objective)
        return Judgement(reached[-1], bracket, cutoff)

    def recall(self, history: History) -> None:
        """Take in the decisions of a journal."""
        for rung, objectives in history.rungs.items():
            for trial, objective in objectives.items():
                there = self.rungs[self.bracket(trial)]
                if rung not in there:
                    rule = f"the journal has decisions at {rung}, so that it must be one of them"
                    raise InputError("rungs", list(self.rungs[0]), rule, "give the settings of before")
                there[rung].enter(trial, objective)

    def describe(self) -> str:
        """Trials at each rung."""
        return "; ".join(
            ", ".join(f"epoch {epoch}: {len(rung.objectives)}" for epoch, rung in bracket.items())
            for bracket in self.rungs
        )


class Median:
    """A trial is stopped when its best is worse than the median of the others' running means.

    After Golovin et al., Google Vizier (2017), section 3.2.1, with the means of running trials too.

    Args:
        grace: no trial is judged before so many epochs.
    """

    def __init__(self, grace: int) -> None:
        self._grace = grace
        self._sums: dict[str, tuple[int, float]] = {}
        self._means: defaultdict[int, Rung] = defaultdict(Rung)

    def judge(self, trial: str, epoch: int, objective: float) -> Judgement | None:
        """Take in an objective, the best so far; None before the grace and while few have come as far."""
        means = self._means[epoch]
        if trial in means.objectives:
            return None
        enough = epoch >= self._grace and len(means.objectives) >= ENOUGH
        cutoff = means.quantile(0.5) if enough else None
        self._enter(trial, epoch, objective)
        return Judgement(epoch, 0, cutoff, noted=False) if enough else None

    def recall(self, history: History) -> None:
        """Take in the records of a journal."""
        for trial in history.trials.values():
            for record in trial.records:
                if sound(record):
                    self._enter(trial.id, record["epoch"], record["objective"])

    def describe(self) -> str:
        """How many trials are compared."""
        return f"{len(self._sums)} trials"

    def _enter(self, trial: str, epoch: int, objective: float) -> None:
        count, total = self._sums.get(trial, (0, 0.0))
        self._sums[trial] = count + 1, total + objective
        self._means[epoch].enter(trial, (total + objective) / (count + 1))


class Never:
    """Nobody is stopped but by the guard."""

    def judge(self, trial: str, epoch: int, objective: float) -> Judgement | None:
        """Decide nothing."""

    def recall(self, history: History) -> None:
        """Keep nothing."""

    def describe(self) -> str:
        """Say so."""
        return "none is stopped early"
