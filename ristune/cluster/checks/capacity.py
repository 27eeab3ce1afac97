"""Whether the machines can carry what a sweep asks for: trials at once, the head's work, the dataset."""

import math

from ristune.cluster.asked import Asked
from ristune.cluster.checks.shell import ray_starts
from ristune.cluster.cluster_file import LOCAL, ClusterFile, NodeType
from ristune.cluster.finding import Judged, error, judged, unknown, warning
from ristune.cluster.machines import memory_gib

MIB_A_GIB = 1024
# The head's memory: the system and Ray's own processes, the sweep's driver (682 MiB with 10 000 trials), and
# what Ray keeps of each worker process. Ray's object store takes 30 % of the whole.
SYSTEM_GIB, DRIVER_GIB, TRIAL_MIB, STORE_SHARE = 2.0, 0.75, 2.0, 0.3
# GB of a node's disk that its system, driver, CUDA and the environment take.
SOFTWARE_GB = 60.0
GB = 1e9


def head(cluster: ClusterFile, asked: Asked) -> Judged:
    """No trial runs on the head, and it has the memory for the search."""
    if cluster.provider == LOCAL:
        return unknown("what the host that is the head has is not in the file")
    found = []
    starts = ray_starts(cluster.head_start)
    kept_free = bool(starts) and all("--num-cpus=0" in command.text for command in starts)
    if (cluster.head.cpus != 0 and not kept_free) or cluster.head.gpus:
        rule = "a trial on the head competes with the search, and may take it down with it"
        value = _shown(cluster.head)
        found.append(error(f"{cluster.head.place}.resources", value, rule, "set it to {CPU: 0}"))
    have, need = memory_gib(cluster.head.machine), head_gib(asked.concurrency)
    if have is None:
        return judged(found, f"runs no trial; the memory of {cluster.head.machine} is not known here")
    if have < need:
        trials = f"{asked.concurrency or 'a few'} trials at once"
        rule = f"{have:g} GiB of memory, and {need:.1f} are needed for {trials}"
        place = f"{cluster.head.place}.node_config"
        found.append(error(place, cluster.head.machine, rule, "take a larger machine as the head"))
    return judged(found, f"runs no trial; {have:g} GiB of memory, {need:.1f} needed")


def head_gib(concurrency: int) -> float:
    """Memory that a head needs, GiB.

    Args:
        concurrency: trials at once.
    """
    used = SYSTEM_GIB + DRIVER_GIB + concurrency * TRIAL_MIB / MIB_A_GIB
    return used / (1 - STORE_SHARE)


def concurrency(cluster: ClusterFile, asked: Asked) -> Judged:
    """The cluster at its largest can run as many trials at once as are asked for."""
    if any(worker.cpus is None or worker.gpus is None for worker in cluster.workers):
        return unknown("not every worker's CPU and GPU are in the file: Ray asks the machines")
    on_gpu = asked.on_gpu if asked.on_gpu is not None else any(worker.gpus for worker in cluster.workers)
    a_trial = f"{asked.gpu:g} GPU and {asked.cpus} CPU" if on_gpu else f"{asked.cpus} CPU"
    found = []
    for worker in cluster.workers:
        if not slots(worker, asked, on_gpu):
            rule = f"no trial fits in: each takes {a_trial}"
            remedy = "correct the resources, take the type out, or let a trial take less"
            found.append(error(f"{worker.place}.resources", _shown(worker), rule, remedy))
    most = _most(cluster, asked, on_gpu)
    if not found and asked.concurrency > most:
        rule = f"at most {most} trials at once fit into {cluster.max_workers} workers, each with {a_trial}"
        remedy = f"lower it to {most}, or raise max_workers"
        found.append(error("sweep.concurrency", asked.concurrency, rule, remedy))
    wanted = f"{asked.concurrency} asked for" if asked.concurrency else f"give sweep.concurrency={most}"
    return judged(found, f"{most} trials at once at most, each with {a_trial}; {wanted}")


def slots(worker: NodeType, asked: Asked, on_gpu: bool) -> int:
    """Trials at once on one node of a type.

    Args:
        worker: the type, whose resources are known.
        asked: what a trial takes.
        on_gpu: whether trials train on GPUs.
    """
    by_cpu = math.floor((worker.cpus or 0) / max(1, asked.cpus))
    return min(by_cpu, math.floor(worker.gpus or 0) * math.floor(1 / asked.gpu)) if on_gpu else by_cpu


def cache_disk(cluster: ClusterFile, asked: Asked) -> Judged:
    """Every worker's disk holds its system and the dataset."""
    if not asked.cached:
        return judged([], "data.mode=windowed keeps no dataset on a node")
    sizes = {worker.name: worker.disk for worker in cluster.workers if worker.disk is not None}
    said = ", ".join(f"{name} {size[0]:.0f} GB" for name, size in sizes.items()) or "no disk is in the file"
    if asked.dataset_bytes is None:
        return unknown(f"{said}; the dataset was not looked at: {asked.dataset_note}")
    dataset = asked.dataset_bytes / GB
    found = []
    if dataset > asked.cache_disk_gb:
        rule = f"a node may keep less than the dataset takes, {dataset:.1f} GB"
        remedy = "raise it, or set data.mode=windowed"
        found.append(error("data.cache_disk_gb", asked.cache_disk_gb, rule, remedy))
    need = SOFTWARE_GB + dataset
    for worker in cluster.workers:
        if worker.disk is not None and worker.disk[0] < need:
            size, place = worker.disk
            rule = f"{SOFTWARE_GB:.0f} GB for the system and {dataset:.1f} GB for the dataset are needed"
            remedy = f"raise it to {math.ceil(need * GB / 2**30)} GiB, or set data.mode=windowed"
            found.append(error(place, f"{size:.0f} GB", rule, remedy))
        if worker.disk is None and cluster.provider != LOCAL:
            rule = "the image's own disk may not hold the dataset"
            place = f"{worker.place}.node_config"
            found.append(warning(place, None, rule, f"give a disk of {need:.0f} GB or more"))
    return judged(found, f"{said}; {dataset:.1f} GB for {asked.dataset_note}")


def _most(cluster: ClusterFile, asked: Asked, on_gpu: bool) -> int:
    """Trials at once when the cluster is as large as it may be, and made of the largest nodes."""
    left, total = cluster.max_workers, 0
    for worker in sorted(cluster.workers, key=lambda each: slots(each, asked, on_gpu), reverse=True):
        nodes = min(left, worker.max_workers)
        left, total = left - nodes, total + nodes * slots(worker, asked, on_gpu)
    return total


def _shown(node: NodeType) -> str:
    known = (("CPU", node.cpus), ("GPU", node.gpus))
    return ", ".join(f"{what} {count:g}" for what, count in known if count is not None) or "what it has"
