"""How many trials run at once, and what each may use."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ristune.errors import InputError
from ristune.sweep_config import SweepConfig

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class Resources:
    """What a sweep uses.

    Attributes:
        cores: CPU cores there are, or that are asked of a cluster.
        gpus: GPUs for trials, likewise; 0 where they train on the CPU.
        concurrency: trials at once.
        cpus: cores a trial, and threads of torch.
        gpu: share of a GPU a trial; 0 on the CPU.
    """

    cores: int
    gpus: int
    concurrency: int
    cpus: int
    gpu: float

    def describe(self) -> str:
        """One line for people."""
        device = f"{self.gpu:g} of {self.gpus} GPUs" if self.gpus else "no GPU"
        return f"{self.concurrency} at once, each with {self.cpus} of {self.cores} cores and {device}"


def local_cores(limit: Path = CGROUP_LIMIT) -> int:
    """Cores this process may use: its affinity, under its container's quota.

    Args:
        limit: the control group's file, `QUOTA PERIOD` in microseconds or `max PERIOD`.
    """
    cores = len(os.sched_getaffinity(0))
    if limit.is_file():
        quota, period = limit.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def local_gpus(device: str) -> int:
    """GPUs of this machine that trials may use.

    Args:
        device: the configuration's `training.device`.
    """
    return 0 if device == "cpu" else torch.cuda.device_count()


def plan(cores: int, gpus: int, trials: int, config: SweepConfig) -> Resources:
    """Share out a machine or a cluster.

    Args:
        cores: CPU cores there are.
        gpus: GPUs there are; 0 trains on the CPU.
        trials: trials in total; there is no more at once.
        config: `concurrency` and `cpus_per_trial`, 0 for automatic, and `gpu_per_trial`.

    Raises:
        InputError: if a trial is to use more cores than there are.
    """
    if config.cpus_per_trial > cores:
        raise InputError(
            "sweep.cpus_per_trial",
            config.cpus_per_trial,
            f"it must be at most the cores there are ({cores})",
            "lower it",
        )
    # Without a GPU one core a trial is the most trials an hour: small networks scale badly over threads.
    slots = gpus * math.floor(1 / config.gpu_per_trial) if gpus else cores
    wanted = min(config.concurrency or slots, slots, trials)
    concurrency = max(1, min(wanted, cores // max(1, config.cpus_per_trial)))
    cpus = config.cpus_per_trial or max(1, cores // concurrency)
    return Resources(cores, gpus, concurrency, cpus, config.gpu_per_trial if gpus else 0.0)


def plan_cluster(device: str, trials: int, config: SweepConfig) -> Resources:
    """What a sweep asks of a cluster, which may have no node yet and start them as they are asked for.

    Args:
        device: the configuration's `training.device`.
        trials: trials in total; there is no more at once.
        config: `concurrency`, `cpus_per_trial` (0 is one core) and `gpu_per_trial`.

    Raises:
        InputError: if concurrency or device are left to what an empty cluster has: none.
    """
    if not config.concurrency:
        raise InputError(
            "sweep.concurrency",
            config.concurrency,
            "with --address it must be given: an autoscaled cluster grows to what is asked for",
            "set it to the trials that the cluster can carry at once",
        )
    if device == "auto":
        raise InputError(
            "training.device",
            device,
            "with --address it must be cuda or cpu: the head tells nothing of the workers",
            "set training.device=cuda",
        )
    on_gpu = device == "cuda"
    concurrency = min(config.concurrency, trials)
    gpus = math.ceil(concurrency * config.gpu_per_trial) if on_gpu else 0
    cpus = config.cpus_per_trial or 1
    return Resources(concurrency * cpus, gpus, concurrency, cpus, config.gpu_per_trial if on_gpu else 0.0)
