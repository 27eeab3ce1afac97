"""On-demand nodes where spot has none: how Ray's autoscaler rates a kind of node that it could start.

Ray notes which kinds its cloud refused in the last half hour, and its own rating does not look at that: it would
ask for spot nodes for ever. The head's start command names `score` in RAY_AUTOSCALER_UTILIZATION_SCORER, which
only version 1 of the autoscaler reads.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer


def score(
    node_resources: Mapping[str, float],
    resources: Sequence[Mapping[str, float]],
    node_type: str,
    *,
    node_availability_summary: NodeAvailabilitySummary,
) -> tuple[Any, ...] | None:
    """How well a kind of node fits what is asked for: Ray's rating, below that of any kind not refused lately.

    Of two that are equal Ray starts the one whose name is last in the alphabet: `gpu_spot` before `gpu_on_demand`.

    Args:
        node_resources: what a node of this kind has.
        resources: what each waiting trial needs.
        node_type: its name in the cluster file.
        node_availability_summary: what became of the last requests for each kind.

    Returns:
        A rating, higher is better; None if no trial fits a node of this kind.
    """
    fit = _default_utilization_scorer(
        node_resources, resources, node_type, node_availability_summary=node_availability_summary
    )
    if fit is None:
        return None
    last = node_availability_summary.node_availabilities.get(node_type)
    return (last is None or last.is_available, *fit)
