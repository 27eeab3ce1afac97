"""The group `sweep`: how values are proposed, how trials are stopped, and what they run on."""

from dataclasses import dataclass

from ristune.errors import require

SAMPLERS = ("tpe", "gp", "cmaes", "random", "qmc")
SCHEDULERS = ("asha", "hyperband", "median", "none")
# How the sampler is told of a trial that was stopped, and of one that diverged after it had been sound.
STOPPED = ("complete", "pruned", "quantile")
DIVERGED = ("best", "infeasible")
# Fewer trials than these leave a model nothing to tell good from bad by.
LEAST_HISTORY = 50
RESOURCES = ("epochs", "data")
# What every generator that is seeded takes.
SEEDS = 2**32
SEED_RULE = "in [0, 2**32)"


@dataclass(frozen=True)
class SweepConfig:
    """The group `sweep`."""

    sampler: str
    startup_trials: int
    history: int
    stopped: str
    diverged: str
    seed: int
    scheduler: str
    resource: str
    first_share: float
    grace: int
    reduction: int
    concurrency: int
    cpus_per_trial: int
    gpu_per_trial: float
    max_retries: int
    max_failed_share: float

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            InputError: naming the first value out of its range.
        """
        for name, known in (
            ("sampler", SAMPLERS),
            ("stopped", STOPPED),
            ("diverged", DIVERGED),
            ("scheduler", SCHEDULERS),
            ("resource", RESOURCES),
        ):
            value = getattr(self, name)
            require(value in known, f"sweep.{name}", value, f"one of {', '.join(known)}")
        require(0 <= self.seed < SEEDS, "sweep.seed", self.seed, SEED_RULE)
        require(self.startup_trials >= 1, "sweep.startup_trials", self.startup_trials, "at least 1")
        require(self.history >= LEAST_HISTORY, "sweep.history", self.history, f"at least {LEAST_HISTORY}")
        require(0 < self.first_share <= 1, "sweep.first_share", self.first_share, "in (0, 1]")
        rule = f"at most half of sweep.history ({self.history}), or the model would never be used"
        require(self.startup_trials <= self.history / 2, "sweep.startup_trials", self.startup_trials, rule)
        require(self.grace >= 1, "sweep.grace", self.grace, "at least 1")
        require(self.reduction >= 2, "sweep.reduction", self.reduction, "at least 2")
        require(self.concurrency >= 0, "sweep.concurrency", self.concurrency, "0 (auto) or more")
        require(self.cpus_per_trial >= 0, "sweep.cpus_per_trial", self.cpus_per_trial, "0 (auto) or more")
        gpu = "in (0, 1]: a trial trains on one GPU, or shares one"
        require(0 < self.gpu_per_trial <= 1, "sweep.gpu_per_trial", self.gpu_per_trial, gpu)
        require(self.max_retries >= 0, "sweep.max_retries", self.max_retries, "0 or more")
        share = self.max_failed_share
        require(0 < share <= 1, "sweep.max_failed_share", share, "in (0, 1]")
