"""Ray's own `ray up` and autoscaler with the shipped file, against a simulated AWS.

Up to where they would log in: `ssh` and `rsync` are stand-ins that note what they are asked for.
"""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import yaml

from tests.cluster.ec2 import Ec2

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
OWNER = "198.51.100.7/32"
NOTING = """#!/bin/bash
printf '%s\\n' "$*" >> "$HOME/ssh.log"
[[ -n ${FAILING:-} && "$*" == *"$FAILING"* ]] && exit 2
exit 0
"""
COPYING = """#!/bin/bash
target=${!#} source=${@: -2:1}
target=${target#*:}
printf '%s\\n' "$source $target" >> "$HOME/rsync.log"
target=${target/#\\~/$HOME}
mkdir -p "$(dirname "$target")"
[[ $source -ef $target ]] || cp -rT "$source" "$target"
"""


def client(server, name):
    return boto3.client(
        name,
        endpoint_url=server.environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@dataclass
class Account:
    """An AWS account with a closed group and profiles, and a home of somebody who runs `ray up`."""

    server: Ec2
    home: Path
    group: str

    @property
    def environment(self):
        path = f"{self.home / 'bin'}:{BIN}:{os.environ['PATH']}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
        return {**kept, **self.server.environment, "HOME": str(self.home), "PATH": path}

    @property
    def file(self):
        return self.home / "ray_cluster.yaml"

    def ray_up(self, **more):
        command = ["ray", "up", "-y", "--no-config-cache", str(self.file)]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )

    def client(self, name):
        return client(self.server, name)

    def machines(self, kind):
        filters = [
            {"Name": "tag:ray-user-node-type", "Values": [kind]},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        answer = self.client("ec2").describe_instances(Filters=filters)
        return [machine for each in answer["Reservations"] for machine in each["Instances"]]

    def log(self, name):
        path = self.home / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def server():
    with Ec2() as running:
        yield running


@pytest.fixture(scope="module")
def group(server):
    """What the script makes, as far as `ray up` looks at it, without the seconds that each `aws` takes."""
    ec2, iam = client(server, "ec2"), client(server, "iam")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    for name in ("ristune-head", "ristune-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    return ec2.create_security_group(GroupName="closed", Description="of tests", VpcId=vpc["VpcId"])[
        "GroupId"
    ]


@pytest.fixture
def account(server, group, tmp_path):
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a" * 64)
    for name, text in (("ssh", NOTING), ("rsync", COPYING)):
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
    (home / "env").mkdir()
    (home / "env" / "bin").symlink_to(BIN)
    text = (ROOT / "ray_cluster.yaml").read_text()
    text = text.replace("s3://my-bucket", "s3://trials-of-mine").replace("sg-00000000000000000", group)
    (home / "ray_cluster.yaml").write_text(text)
    server.launches.clear()
    server.refuses_spot = False
    found = Account(server, home, group)
    yield found
    ids = [m["InstanceId"] for kind in ("head", "gpu_spot", "gpu_on_demand") for m in found.machines(kind)]
    if ids:
        found.client("ec2").terminate_instances(InstanceIds=ids)
    for key in found.client("ec2").describe_key_pairs()["KeyPairs"]:
        found.client("ec2").delete_key_pair(KeyName=key["KeyName"])


def test_ray_up_creates_the_head_and_sets_it_up(account):
    done = account.ray_up()
    assert done.returncode == 0, done.stdout + done.stderr
    (head,) = account.machines("head")
    assert head["InstanceType"] == "m6i.2xlarge"
    assert [group["GroupId"] for group in head["SecurityGroups"]] == [account.group]
    assert head["IamInstanceProfile"]["Arn"].endswith("instance-profile/ristune-head")
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert tags["ray-cluster-name"] == "ristune" and tags["ray-node-type"] == "head"
    (asked,) = account.server.launches
    assert asked["BlockDeviceMapping.1.Ebs.VolumeSize"] == "150"
    assert asked["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/")
    assert "InstanceMarketOptions.MarketType" not in asked
    mounted = "\n".join(account.log("rsync"))
    assert "/.ray/auth_token" in mounted and "ristune/ /home/ristune" not in mounted
    commands = account.log("ssh")
    check = next(i for i, c in enumerate(commands) if "ristune.cluster.node_check" in c)
    start = next(i for i, c in enumerate(commands) if "ray start" in c)
    assert check < start and "RAY_AUTH_MODE=token" in commands[start]
    # Ray made no role and no group of its own, which would be open.
    groups = {g["GroupName"] for g in account.client("ec2").describe_security_groups()["SecurityGroups"]}
    assert not any(name.startswith("ray-autoscaler") for name in groups)
    assert account.client("iam").list_roles()["Roles"] == []


@pytest.mark.parametrize("failing", ["ristune.cluster.node_check", "uv pip install"])
def test_ray_up_fails_where_a_setup_command_of_the_head_fails(account, failing):
    done = account.ray_up(FAILING=failing)
    assert done.returncode != 0
    assert "Failed to setup head node" in done.stdout + done.stderr
    assert not any("ray start" in command for command in account.log("ssh"))


def test_ray_up_fails_where_the_group_is_not_set(account):
    account.file.write_text(account.file.read_text().replace(account.group, "sg-00000000000000000"))
    done = account.ray_up()
    assert done.returncode != 0 and account.machines("head") == []


@pytest.fixture
def head(account):
    """The head's own start command, run on this machine, with the configuration that `ray up` shipped."""
    assert account.ray_up().returncode == 0
    document = yaml.safe_load(account.file.read_text())
    start = next(command for command in document["head_start_ray_commands"] if "ray start" in command)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = start.replace("--port=6379", f"--port={port}")
    # The path of a socket has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ristune-", dir="/tmp"))
    start += f" --node-ip-address=127.0.0.1 --num-cpus=0 --temp-dir={shlex.quote(str(folder))} --block"
    # What was shipped is what the head has.
    environment = account.environment | {"PYTHONPATH": str(account.home / "ristune")}
    with (account.home / "head.log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", start], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


def ask(account, address, trials):
    """Trials that wait for a GPU each, as the sweep's actors do."""
    code = (
        f"import ray; from ray.autoscaler.sdk import request_resources; ray.init(address={address!r});"
        f"request_resources(bundles=[{{'CPU': 2, 'GPU': 1}}] * {trials})"
    )
    environment = account.environment | {"RAY_AUTH_MODE": "token"}
    deadline = time.monotonic() + 90
    while True:
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        if done.returncode == 0 or time.monotonic() > deadline:
            assert done.returncode == 0, done.stderr + (account.home / "head.log").read_text()
            return
        time.sleep(2)


def wait_for(account, **kinds):
    deadline = time.monotonic() + 90
    while (found := {kind: len(account.machines(kind)) for kind in kinds}) != kinds:
        assert time.monotonic() < deadline, f"wanted {kinds}, found {found}"
        time.sleep(1)


def test_the_autoscaler_starts_spot_workers_and_others_on_demand_where_spot_has_none(account, head):
    ask(account, head, 3)
    wait_for(account, gpu_spot=3, gpu_on_demand=0)
    for machine in account.machines("gpu_spot"):
        assert machine["InstanceType"] == "g5.2xlarge" and machine["InstanceLifecycle"] == "spot"
        assert machine["IamInstanceProfile"]["Arn"].endswith("instance-profile/ristune-worker")
        assert [group["GroupId"] for group in machine["SecurityGroups"]] == [account.group]
    asked = account.server.launches[-1]
    assert asked["BlockDeviceMapping.1.Ebs.VolumeSize"] == "300"
    assert asked["BlockDeviceMapping.1.Ebs.Throughput"] == "500"
    account.server.refuses_spot = True
    ask(account, head, 5)
    wait_for(account, gpu_spot=3, gpu_on_demand=2)
    assert all("InstanceLifecycle" not in machine for machine in account.machines("gpu_on_demand"))
    # The head has set them up by the commands of the file.
    workers = [c for c in account.log("ssh") if "RAY_HEAD_IP" in c]
    assert any("node_check --gpu" in command for command in workers)
    assert all("RAY_AUTH_MODE=token" in command for command in workers if "ray start" in command)
