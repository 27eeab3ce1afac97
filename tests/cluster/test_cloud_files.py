"""The shipped files of clouds, by Ray's own rules and by ours; no cloud is touched."""

import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
FILES = ["ray_cluster.yaml", "cluster/gcp.yaml"]


@pytest.fixture(params=FILES)
def cluster(request):
    return yaml.safe_load((ROOT / request.param).read_text())


@pytest.fixture
def aws():
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def is_spot(node_config):
    market = node_config.get("InstanceMarketOptions", {}).get("MarketType")
    return market == "spot" or node_config.get("scheduling", {}).get("provisioningModel") == "SPOT"


def workers(cluster):
    return {name: kind for name, kind in cluster["available_node_types"].items() if name != "head"}


def test_rays_own_schema_accepts_the_file(cluster):
    validate_config(prepare_config(cluster))


def test_rays_own_schema_refuses_an_unknown_key(cluster):
    cluster["idle_timeout"] = 10
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(cluster))


def test_workers_are_gpus_on_spot_and_the_same_on_demand(cluster):
    kinds = workers(cluster)
    assert {name: is_spot(kind["node_config"]) for name, kind in kinds.items()} == {
        "gpu_spot": True,
        "gpu_on_demand": False,
    }
    for key in ("resources", "min_workers", "max_workers"):
        assert kinds["gpu_spot"][key] == kinds["gpu_on_demand"][key]
    for market in ("InstanceMarketOptions", "scheduling"):
        for kind in kinds.values():
            kind["node_config"].pop(market, None)
    assert kinds["gpu_spot"]["node_config"] == kinds["gpu_on_demand"]["node_config"]


def test_workers_come_from_zero_to_the_maximum_set_at_the_top(cluster):
    assert cluster["max_workers"] == cluster["metadata"]["max_workers"]
    for kind in workers(cluster).values():
        assert (kind["min_workers"], kind["max_workers"]) == (0, cluster["max_workers"])
        assert kind["resources"]["GPU"] == 1
    assert cluster["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert cluster["idle_timeout_minutes"] == 10


def test_every_node_has_the_token_and_demands_it(cluster):
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    for role in ("head", "worker"):
        starts = [c for c in cluster[f"{role}_start_ray_commands"] if "ray start" in c]
        assert starts and all("RAY_AUTH_MODE=token" in command for command in starts)


def test_the_setup_of_every_node_ends_in_a_check(cluster):
    head, worker = cluster["head_setup_commands"][-1], cluster["worker_setup_commands"][-1]
    for command in (head, worker):
        assert "-m ristune.cluster.node_check" in command
        assert command.endswith("--cluster ~/ray_bootstrap_config.yaml")
    assert "--gpu" in worker and "--gpu" not in head
    assert cluster["cluster_synced_files"] == ["~/ray_bootstrap_config.yaml"]
    # A command that goes on after one that failed would hide it.
    for command in [*cluster["setup_commands"], head, worker]:
        assert ";" not in command and "|" not in command


def test_the_head_rates_kinds_of_nodes_by_what_the_cloud_refused(cluster):
    start = next(c for c in cluster["head_start_ray_commands"] if "ray start" in c)
    assert "RAY_AUTOSCALER_UTILIZATION_SCORER=ristune.cluster.fallback.score" in start
    # Only version 1 of the autoscaler reads it.
    assert "RAY_enable_autoscaler_v2=0" in start


def test_the_code_that_is_shipped_is_all_that_an_installation_takes(cluster):
    mounts = cluster["file_mounts"]
    shipped = {
        far.removeprefix("~/ristune/"): near for far, near in mounts.items() if "auth_token" not in far
    }
    assert all(far == near and (ROOT / near).exists() for far, near in shipped.items())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    assert set(shipped) == needed | {"constraints.txt"}


def test_disks_hold_the_nodes_cache(cluster):
    cache = yaml.safe_load((ROOT / "configs/data/default.yaml").read_text())["cache_disk_gb"]
    for kind in workers(cluster).values():
        node = kind["node_config"]
        sizes = [d["Ebs"]["VolumeSize"] for d in node.get("BlockDeviceMappings", ())]
        sizes += [int(d["initializeParams"]["diskSizeGb"]) for d in node.get("disks", ())]
        # Beside it the image (about 75 GB) and the environment (about 10 GB).
        assert len(sizes) == 1 and sizes[0] >= cache + 85


def test_no_node_of_aws_is_open_to_the_world(aws):
    for kind in aws["available_node_types"].values():
        # Ray opens ssh to everybody in a group that it makes itself: it is to make none.
        assert kind["node_config"]["SecurityGroupIds"] == aws["metadata"]["security_groups"]
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}
        assert kind["node_config"]["IamInstanceProfile"]["Name"].startswith("ristune-")
    assert "security_group" not in aws["provider"]


def test_what_a_user_sets_is_few_and_first():
    for path in FILES:
        text = (ROOT / path).read_text()
        first = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert first[0] == "metadata:"
        assert len(yaml.safe_load(text)["metadata"]) <= 6
