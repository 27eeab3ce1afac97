from pathlib import Path

import pytest
import yaml

from ristune.cluster.capacity import concurrency, device, kinds
from ristune.errors import InputError
from tests.cluster.files import cloud, hosts


def test_spot_and_its_fallback_are_no_sum_beyond_the_clusters_maximum():
    assert concurrency(cloud(), "cuda", 0, 1.0, trials=100) == 6 * 2


def test_a_kind_of_node_counts_no_more_often_than_it_may_be_there():
    assert concurrency(cloud(max_workers=100), "cuda", 0, 1.0, trials=100) == (4 + 4) * 2


def test_nodes_that_carry_the_most_are_counted_first():
    content = cloud()
    content["available_node_types"]["spot"]["resources"]["GPU"] = 1
    assert concurrency(content, "cuda", 0, 1.0, trials=100) == 4 * 2 + 2 * 1


@pytest.mark.parametrize(
    ("cpus", "gpu", "a_node"),
    [(0, 0.5, 4), (0, 0.4, 4), (4, 0.5, 2), (8, 1.0, 1), (0, 1.0, 2)],
    ids=["shared", "never over two GPUs", "cores first", "all cores", "whole"],
)
def test_a_node_carries_what_both_its_cores_and_its_gpus_do(cpus, gpu, a_node):
    assert concurrency(cloud(), "cuda", cpus, gpu, trials=100) == 6 * a_node


def test_on_the_cpu_a_node_carries_what_its_cores_do():
    assert concurrency(cloud(), "cpu", 2, 1.0, trials=100) == 6 * 4


def test_there_are_never_more_at_once_than_trials():
    assert concurrency(cloud(), "cuda", 0, 1.0, trials=5) == 5


def test_a_head_with_resources_carries_trials_and_takes_no_workers_place():
    content = cloud()
    content["available_node_types"]["head"]["resources"] = {"CPU": 4}
    assert concurrency(content, "cpu", 0, 1.0, trials=100) == 4 + 6 * 8


def test_a_trial_that_no_node_carries_is_refused():
    with pytest.raises(
        InputError, match="no node of the cluster file carries a trial, which needs 1 GPU and 9"
    ):
        concurrency(cloud(), "cuda", 9, 1.0, trials=100)


def test_hosts_carry_what_the_options_of_ray_start_say():
    content = hosts(worker="ray start --num-cpus=4 --num-gpus 1")
    assert concurrency(content, "cuda", 0, 0.5, trials=100) == 2 * 2
    assert concurrency(content, "cpu", 0, 1.0, trials=100) == 2 * 4
    assert concurrency({**content, "max_workers": 1}, "cpu", 0, 1.0, trials=100) == 4


def test_hosts_of_which_nothing_is_said_want_the_number_given():
    with pytest.raises(
        InputError, match=r"sweep.concurrency: .* does not say what a node of the type 'worker'"
    ):
        concurrency(hosts(), "cpu", 0, 1.0, trials=100)


def test_trials_train_on_gpus_where_any_worker_has_one():
    assert device(kinds(cloud())) == "cuda"
    content = cloud()
    for name in ("spot", "on_demand"):
        content["available_node_types"][name]["resources"] = {"CPU": 8}
    assert device(kinds(content)) == "cpu"
    assert device(kinds(hosts(worker="ray start --num-gpus=0"))) == "cpu"


def test_a_gpu_that_may_be_there_is_not_guessed_at():
    with pytest.raises(
        InputError, match=r"training.device: .* whether a node of the type 'worker' has a GPU"
    ):
        device(kinds(hosts()))


def test_the_shipped_file_carries_a_trial_a_worker():
    shipped = yaml.safe_load((Path(__file__).parents[2] / "ray_cluster.yaml").read_text())
    assert device(kinds(shipped)) == "cuda"
    assert concurrency(shipped, "cuda", 0, 1.0, trials=200) == shipped["max_workers"]
