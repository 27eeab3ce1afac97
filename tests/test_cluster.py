from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parents[1] / "ray_cluster.yaml"


@pytest.fixture
def cluster():
    return yaml.safe_load(FILE.read_text())


def test_rays_own_schema_accepts_the_cluster_file(cluster):
    validate_config(prepare_config(cluster))


def test_rays_own_schema_refuses_an_unknown_key(cluster):
    cluster["idle_timeout"] = 10
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(cluster))


def test_workers_are_gpus_on_spot_from_zero_to_the_clusters_maximum(cluster):
    worker = cluster["available_node_types"]["gpu_spot"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["min_workers"] == 0 and worker["max_workers"] == cluster["max_workers"]


def test_every_node_has_the_token_and_demands_it(cluster):
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    for role in ("head", "worker"):
        starts = [c for c in cluster[f"{role}_start_ray_commands"] if "ray start" in c]
        assert starts and all("RAY_AUTH_MODE=token" in command for command in starts)
