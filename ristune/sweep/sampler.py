"""Optuna's samplers as a sweep configures them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from ristune.sweep_config import SweepConfig

# Samplers whose proposals hang on what they proposed before, beside what the study knows.
STATEFUL = ("cmaes", "qmc")


def create_study(name: str, config: SweepConfig, storage: BaseStorage) -> optuna.Study:
    """A new study that minimises one value.

    Args:
        name: of the study, the sweep's.
        config: sampler, seed, startup trials.
        storage: where its trials are kept.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = sampler(config, 0, 0)
    return optuna.create_study(study_name=name, storage=storage, sampler=first, direction="minimize")


def sampler(config: SweepConfig, number: int, attempt: int) -> BaseSampler:
    """The configured sampler as it proposes a trial: seeded by what it is asked, not by what it drew before.

    A generator that went on from trial to trial would start anew when a sweep is resumed, and propose the
    first trials again.

    Args:
        config: sampler, seed, startup trials.
        number: of the trial.
        attempt: how many proposals for it were discarded.
    """
    seed = int(np.random.SeedSequence([config.seed, number, attempt]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Optuna says so of each option that may change; our tests would see it.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _sampler(config, seed)


@contextmanager
def quietly() -> Iterator[None]:
    """Torch on one thread, and no warning of what is known, while Optuna is asked or told.

    A model of a few hundred points gains nothing from more threads, and trials lose them. CMA-ES does not
    look at constraints: what is infeasible has the worst value.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constraints have been set", UserWarning)
            yield
    finally:
        torch.set_num_threads(threads)


def random_sampler(config: SweepConfig, number: int, attempt: int) -> BaseSampler:
    """Independent draws, for what the configured sampler will not find."""
    seed = int(np.random.SeedSequence([config.seed, number, attempt]).generate_state(1)[0])
    return optuna.samplers.RandomSampler(seed=seed)


def _sampler(config: SweepConfig, seed: int) -> BaseSampler:
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if config.sampler == "qmc":
        # One sequence for all trials: its scrambling must be the same each time.
        return optuna.samplers.QMCSampler(
            seed=config.seed,
            scramble=True,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
    if config.sampler == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            warn_independent_sampling=False,
            consider_pruned_trials=config.stopped == "pruned",
        )
    if config.sampler == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=config.startup_trials, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(
        seed=seed,
        multivariate=True,
        # Parameters with conditions form groups of their own; without conditions there is one.
        group=True,
        constant_liar=True,
        n_startup_trials=config.startup_trials,
    )
