"""All rules of cluster files, in the order in which they are shown."""

from collections.abc import Callable
from dataclasses import dataclass

from ristune.cluster.asked import Asked
from ristune.cluster.checks.access import network, token
from ristune.cluster.checks.capacity import cache_disk, concurrency, head
from ristune.cluster.checks.nodes import autoscaler, idle_timeout, spot_fallback, workers
from ristune.cluster.checks.places import places
from ristune.cluster.checks.software import code, node_check, versions
from ristune.cluster.cluster_file import ClusterFile
from ristune.cluster.finding import Judged


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: as `--only` takes it.
        purpose: what holds if nothing is found, in a line.
        run: looks.
    """

    name: str
    purpose: str
    run: Callable[[ClusterFile, Asked], Judged]


RULES = (
    Rule("token", "every node has the token, and every `ray start` asks for it", token),
    Rule("network", "no port is open to the whole world", network),
    Rule("autoscaler", "the autoscaler in use can add workers of this provider", autoscaler),
    Rule("workers", "no worker runs without a trial, and the maxima agree", workers),
    Rule("spot-fallback", "what may be taken away has an on-demand type in its place", spot_fallback),
    Rule("idle-timeout", "idle nodes go, and not between two trials", idle_timeout),
    Rule("head", "no trial runs on the head, and it has the memory for the search", head),
    Rule("concurrency", "as many trials at once as are asked for fit into the workers", concurrency),
    Rule("cache-disk", "every worker's disk holds its system and the dataset", cache_disk),
    Rule("versions", "nodes get the Ray and the Python of this machine", versions),
    Rule("code", "the project is shipped, without what is large in its folder", code),
    Rule("node-check", "the setup of every node ends in a check that can fail", node_check),
    Rule("places", "all nodes reach the dataset and the sweep's output", places),
)
