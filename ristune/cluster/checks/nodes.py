"""How many nodes of which kind: what is left when spot is gone, what idle nodes cost."""

from ristune.cluster.asked import Asked
from ristune.cluster.checks.shell import ray_starts, sets
from ristune.cluster.cluster_file import LOCAL, ClusterFile, NodeType
from ristune.cluster.finding import Finding, Judged, error, judged, unknown, warning

# Minutes that an idle node may stay: fewer end it between two trials, more pay for nothing.
LEAST_IDLE, MOST_IDLE = 2, 60
V2 = "RAY_enable_autoscaler_v2"
# Names a function that ranks node types.
SCORER = "RAY_AUTOSCALER_UTILIZATION_SCORER"


def spot_fallback(cluster: ClusterFile, asked: Asked) -> Judged:
    """What may be taken away has an on-demand type that can take its place."""
    found = []
    if cluster.head.spot:
        rule = "the search ends with the head: it must not be on spot"
        found.append(error(f"{cluster.head.place}.node_config", "spot", rule, "take the head on demand"))
    spot = [worker for worker in cluster.workers if worker.spot]
    pairs = []
    for worker in spot:
        fallback = next((other for other in cluster.workers if _replaces(other, worker)), None)
        if fallback is None:
            rule = "while the provider has no spot machine of this type, no trial would start"
            remedy = f"add an on-demand type with {_size(worker)} and max_workers of at least 1"
            found.append(error(worker.place, "spot, and no on-demand type as large", rule, remedy))
        else:
            pairs.append(f"{fallback.name} for {worker.name}")
    return judged(found, ", ".join(pairs) or "no node is on spot")


def workers(cluster: ClusterFile, asked: Asked) -> Judged:
    """None runs without a trial, and the cluster's maximum is what the types can give."""
    found = []
    for worker in cluster.workers:
        if worker.min_workers > 0 and cluster.provider != LOCAL:
            rule = "so many nodes run, and cost, without any trial"
            found.append(warning(f"{worker.place}.min_workers", worker.min_workers, rule, "set it to 0"))
        if worker.max_workers > cluster.max_workers:
            rule = f"the cluster's max_workers is {cluster.max_workers}: there are never more nodes"
            remedy = "lower it, or raise the cluster's max_workers"
            found.append(warning(f"{worker.place}.max_workers", worker.max_workers, rule, remedy))
    if cluster.head.max_workers > 0:
        rule = "machines of the head's type run no trials: as workers they would only cost"
        place = f"{cluster.head.place}.max_workers"
        found.append(warning(place, cluster.head.max_workers, rule, "set it to 0"))
    most = sum(worker.max_workers for worker in cluster.workers)
    if most < cluster.max_workers:
        rule = f"the types together give at most {most}"
        remedy = "lower it, or raise max_workers of a type"
        found.append(warning("max_workers", cluster.max_workers, rule, remedy))
    least = sum(worker.min_workers for worker in cluster.workers)
    return judged(found, f"{least} to {cluster.max_workers} of {len(cluster.workers)} types")


def idle_timeout(cluster: ClusterFile, asked: Asked) -> Judged:
    """Idle nodes go, and not between two trials."""
    if cluster.provider == LOCAL:
        return unknown("hosts that are there already cost nothing more")
    minutes, place = cluster.idle_timeout, "idle_timeout_minutes"
    remedy = f"set it to {LEAST_IDLE} to {MOST_IDLE}, such as 10"
    if minutes is None:
        return judged([warning(place, None, "Ray would take its own default", remedy)], "")
    found: list[Finding] = []
    if minutes < LEAST_IDLE:
        rule = "nodes would end between two trials, and be started and set up again"
        found.append(warning(place, minutes, rule, remedy))
    if minutes > MOST_IDLE:
        found.append(warning(place, minutes, "nodes would cost for so long without any trial", remedy))
    return judged(found, f"{minutes:g} min")


def autoscaler(cluster: ClusterFile, asked: Asked) -> Judged:
    """The autoscaler in use can add workers of this provider."""
    found = []
    for command in ray_starts(cluster.head_start):
        if sets(command.text, V2, "0"):
            continue
        remedy = f"write {V2}=0 before `ray start` on the head"
        if cluster.provider == LOCAL:
            rule = "Ray's autoscaler v2 never adds a host that is there already"
            found.append(error(command.place, command.text, rule, remedy))
        elif SCORER in command.text:
            rule = f"Ray's autoscaler v2 does not ask {SCORER} which type comes first"
            found.append(error(command.place, command.text, rule, remedy))
    return judged(found, f"it can add nodes of provider {cluster.provider}")


def _replaces(other: NodeType, spot: NodeType) -> bool:
    enough = all(
        mine is None or theirs is None or theirs >= mine
        for mine, theirs in ((spot.cpus, other.cpus), (spot.gpus, other.gpus))
    )
    return not other.spot and other.max_workers >= 1 and enough


def _size(worker: NodeType) -> str:
    parts = [f"{count:g} {what}" for count, what in ((worker.cpus, "CPU"), (worker.gpus, "GPU")) if count]
    return " and ".join(parts) or "the same resources"
