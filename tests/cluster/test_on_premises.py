"""The shipped file for hosts that one has, and what a test bed fills in."""

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.testbed.cluster_file import TEMPLATE, fill

BUCKET = "s3://sweeps?endpoint=http://10.77.0.1:7480"


def shipped():
    return yaml.safe_load(TEMPLATE.read_text())


def filled(bucket=BUCKET, credentials=Path("/bed/credentials")):
    return fill("bed", ["10.0.0.2", "10.0.0.3"], Path("/bed/key"), Path("/bed/token"), bucket, credentials)


def starts(cluster, role):
    return [each for each in cluster[f"{role}_start_ray_commands"] if "ray start" in each]


def test_rays_own_schema_accepts_the_shipped_file_and_the_filled_one():
    for cluster in (shipped(), filled()):
        validate_config(prepare_config(cluster))


def test_every_node_has_the_token_and_demands_it():
    cluster = shipped()
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for role in ("head", "worker"):
        assert [("RAY_AUTH_MODE=token" in each) for each in starts(cluster, role)] == [True]


def test_the_head_takes_the_autoscaler_that_adds_workers_of_a_local_provider():
    assert ["RAY_enable_autoscaler_v2=0" in each for each in starts(shipped(), "head")] == [True]


def test_setup_ends_in_a_check_of_the_bucket_and_on_workers_of_the_gpu():
    cluster = shipped()
    for role in ("head", "worker"):
        last = cluster[f"{role}_setup_commands"][-1]
        assert "ristune.cluster.node_check" in last and "--cluster ~/ray_bootstrap_config.yaml" in last
        assert ("--gpu" in last) == (role == "worker")
    # Without it no worker would have the file that the check reads.
    assert cluster["cluster_synced_files"] == ["~/ray_bootstrap_config.yaml"]


def test_what_is_shipped_is_there():
    for here in shipped()["file_mounts"].values():
        assert here.startswith("~/") or (TEMPLATE.parents[1] / here).exists(), here


def test_a_bed_fills_in_hosts_keys_and_bucket_and_leaves_all_else_as_it_is_shipped():
    template, bed = shipped(), filled()
    assert bed["provider"] == {"type": "local", "head_ip": "10.0.0.2", "worker_ips": ["10.0.0.3"]}
    assert bed["auth"] == {"ssh_user": "root", "ssh_private_key": "/bed/key"}
    assert bed["metadata"] == {"bucket": BUCKET}
    assert bed["file_mounts"].keys() == template["file_mounts"].keys()
    assert bed["head_setup_commands"] == template["head_setup_commands"]
    for role in ("head", "worker"):
        assert starts(bed, role)[0].startswith(starts(template, role)[0])
    differ = {"cluster_name", "provider", "auth", "metadata", "file_mounts", "setup_commands"}
    differ |= {"worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"}
    assert {key for key in template if template[key] != bed[key]} == differ


def test_a_bed_without_a_bucket_ships_no_keys():
    assert "~/.aws/credentials" not in filled("/home/shared", None)["file_mounts"]
