import time

import pytest
from ray.autoscaler._private.node_provider_availability_tracker import NodeProviderAvailabilityTracker
from ray.autoscaler._private.resource_demand_scheduler import get_nodes_for
from ray.autoscaler.node_launch_exception import NodeLaunchException

from ristune.cluster.fallback import score

KIND = {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 8}
KINDS = {"head": {"resources": {"CPU": 0}, "max_workers": 0}, "gpu_on_demand": KIND, "gpu_spot": KIND}
TRIAL = {"CPU": 2, "GPU": 1}


@pytest.fixture
def tracker():
    return NodeProviderAvailabilityTracker()


def refuse(tracker, kind, age=0):
    error = NodeLaunchException("InsufficientInstanceCapacity", "none left", None)
    tracker.update_node_availability(kind, time.time() - age, error)


def wanted(tracker, trials=3, kinds=KINDS):
    from functools import partial

    rate = partial(score, node_availability_summary=tracker.summary())
    nodes, left = get_nodes_for(kinds, {}, "head", 8, [TRIAL] * trials, rate)
    assert left == [] or trials > 8
    return dict(nodes)


def test_spot_comes_first(tracker):
    assert wanted(tracker) == {"gpu_spot": 3}


def test_on_demand_takes_over_where_spot_was_refused(tracker):
    refuse(tracker, "gpu_spot")
    assert wanted(tracker) == {"gpu_on_demand": 3}


def test_spot_is_tried_again_half_an_hour_later(tracker):
    refuse(tracker, "gpu_spot", age=1801)
    assert wanted(tracker) == {"gpu_spot": 3}


def test_spot_is_asked_first_where_both_were_refused(tracker):
    refuse(tracker, "gpu_spot")
    refuse(tracker, "gpu_on_demand")
    assert wanted(tracker) == {"gpu_spot": 3}


def test_a_spot_machine_that_was_had_clears_the_refusal(tracker):
    refuse(tracker, "gpu_spot", age=10)
    tracker.update_node_availability("gpu_spot", time.time(), None)
    assert wanted(tracker) == {"gpu_spot": 3}


def test_a_kind_that_fits_no_trial_has_no_rating(tracker):
    assert score({"CPU": 0}, [TRIAL], "head", node_availability_summary=tracker.summary()) is None
