"""Optuna's side of a sweep: the sampler, the study and its storage."""

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from ristune.config import SweepConfig
from ristune.sweep.space import Scalar, Space, suggest

STORAGE = "optuna.log"


def create_study(name: str, config: SweepConfig, journal: Path | None) -> optuna.Study:
    """A new study that minimises one value.

    Args:
        name: of the study, the sweep's; a study of that name may not be in the storage yet.
        config: sampler, its seed and its startup trials.
        journal: folder of Optuna's own log; None keeps the study in memory.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage: BaseStorage
    if journal is None:
        storage = InMemoryStorage()
    else:
        storage = JournalStorage(JournalFileBackend(str(journal / STORAGE)))
    sampler = _sampler(config)
    return optuna.create_study(study_name=name, storage=storage, sampler=sampler, direction="minimize")


def preview(space: Space, config: SweepConfig, count: int) -> list[dict[str, Scalar]]:
    """The first configurations that a sweep would try, as far as they do not depend on results.

    Args:
        space: as parsed.
        config: sampler, seed and startup trials.
        count: how many at most; what comes after the startup trials depends on results.
    """
    study = create_study("preview", config, None)
    return [suggest(space, study.ask()) for _ in range(min(count, config.startup_trials))]


def _sampler(config: SweepConfig) -> optuna.samplers.BaseSampler:
    if config.sampler == "random":
        return optuna.samplers.RandomSampler(seed=config.seed)
    return optuna.samplers.TPESampler(
        seed=config.seed,
        multivariate=True,
        constant_liar=True,
        n_startup_trials=config.startup_trials,
    )
