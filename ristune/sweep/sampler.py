"""Optuna's side of a sweep: the sampler, and the study, which is made of the journal and kept in memory."""

import warnings
from collections.abc import Iterable
from functools import partial

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from ristune.sweep.history import State, TrialHistory
from ristune.sweep.space import Scalar, Space, active_distributions, suggest, violated
from ristune.sweep_config import SweepConfig

# A constraint above 0 makes a trial infeasible: TPE then ranks it behind every feasible one.
CONSTRAINT = "finite"
# After so many proposals that break a constraint of the space the next are random: a known share will do.
BROKEN = 20


def create_study(name: str, config: SweepConfig) -> optuna.Study:
    """A new study that minimises one value.

    Args:
        name: of the study, the sweep's.
        config: sampler, its seed and its startup trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name=name, sampler=sampler(config, 0), direction="minimize")


def ask(
    study: optuna.Study, config: SweepConfig, space: Space, number: int
) -> tuple[optuna.Trial, dict[str, Scalar]]:
    """A new trial, whose values hang on the seed, its number and what the study knows, and on nothing else.

    A sampler's own generator would start anew when a sweep is resumed, and propose the first trials again.
    Proposals that break a constraint of the space are failed trials of the study, which no sampler looks at.

    Args:
        study: the study.
        config: sampler, seed and startup trials.
        space: as parsed.
        number: how many trials were asked for before.

    Returns:
        The trial and its values.
    """
    attempt = 0
    while True:
        study.sampler = sampler(config, number, attempt, space.conditional)
        trial = study.ask()
        values = suggest(space, trial)
        if not violated(space, values):
            return trial, values
        study.tell(trial, state=TrialState.FAIL)
        attempt += 1


def preview(space: Space, config: SweepConfig, count: int) -> list[dict[str, Scalar]]:
    """The first configurations that a sweep would try, as far as they do not depend on results.

    Args:
        space: as parsed.
        config: sampler, seed and startup trials.
        count: how many at most; what comes after the startup trials depends on results.
    """
    study = create_study("preview", config)
    return [ask(study, config, space, number)[1] for number in range(min(count, config.startup_trials))]


def recall(study: optuna.Study, space: Space, trials: Iterable[TrialHistory], ceiling: float) -> None:
    """Tell an empty study of the trials of a journal; those that have not ended are running.

    Args:
        study: the study.
        space: as parsed.
        trials: in the order in which they were asked.
        ceiling: what a trial without any finite validation was told with.
    """
    for trial in trials:
        study.add_trial(_frozen(trial, space, ceiling))


def sampler(
    config: SweepConfig, number: int, attempt: int = 0, conditional: bool = False
) -> optuna.samplers.BaseSampler:
    """The configured sampler as it proposes the trial of a number.

    Args:
        config: sampler, seed and startup trials.
        number: of the trial.
        attempt: how many proposals for it have broken a constraint.
        conditional: whether trials differ in what is searched in them.
    """
    entropy = [config.seed, number, *([attempt] if attempt else [])]
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    if config.sampler == "random" or attempt >= BROKEN:
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # `group` is called experimental; without it, values that some trials lack are drawn one by one.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            constant_liar=True,
            n_startup_trials=config.startup_trials,
            group=conditional,
        )


def _frozen(trial: TrialHistory, space: Space, ceiling: float) -> FrozenTrial:
    known = partial(
        create_trial, params=trial.values, distributions=active_distributions(space, trial.values)
    )
    if trial.state is State.FAILED:
        return known(state=TrialState.FAIL)
    if not trial.state.ended:
        return known(state=TrialState.RUNNING)
    value = ceiling if trial.objective is None else trial.objective
    return known(value=value, constraints={CONSTRAINT: float(trial.objective is None)})
