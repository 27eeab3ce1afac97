"""The script that makes bucket, roles and group, by the real `aws` command against a simulated AWS."""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from tests.cluster.ec2 import Ec2

pytestmark = pytest.mark.cluster

SCRIPT = Path(__file__).parents[2] / "cluster" / "aws" / "create.sh"
FIRST, SECOND = "198.51.100.7/32", "203.0.113.9/32"


@pytest.fixture
def server():
    with Ec2() as running:
        yield running


def create(server, address):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | server.environment
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = [SCRIPT, "trials-of-mine", "us-east-1", address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_closed_group_and_roles_are_made_and_what_is_there_already_is_kept(server):
    def client(name):
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        endpoint = server.environment["AWS_ENDPOINT_URL"]
        return boto3.client(name, endpoint_url=endpoint, region_name="us-east-1", **keys)

    # As an earlier run has left them: the group lets another address in, and one of the roles is there.
    ec2 = client("ec2")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    before = ec2.create_security_group(GroupName="ristune", Description="of it", VpcId=vpc["VpcId"])[
        "GroupId"
    ]
    among = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": before}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": FIRST}]}
    ec2.authorize_security_group_ingress(GroupId=before, IpPermissions=[among, ssh])
    trust = (SCRIPT.parent / "trust-policy.json").read_text()
    client("iam").create_role(RoleName="ristune-head", AssumeRolePolicyDocument=trust)
    said = create(server, SECOND)
    filters = [{"Name": "group-name", "Values": ["ristune"]}]
    (group,) = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    assert group["GroupId"] == before
    assert f"security_groups: &security_groups [{before}]" in said
    opened = {(p.get("FromPort"), r["CidrIp"]) for p in group["IpPermissions"] for r in p["IpRanges"]}
    members = [pair["GroupId"] for p in group["IpPermissions"] for pair in p["UserIdGroupPairs"]]
    assert opened == {(22, SECOND)} and members == [group["GroupId"]]
    iam = client("iam")
    assert iam.list_role_policies(RoleName="ristune-head")["PolicyNames"] == ["bucket", "workers"]
    assert iam.list_role_policies(RoleName="ristune-worker")["PolicyNames"] == ["bucket"]
    document = json.dumps(
        iam.get_role_policy(RoleName="ristune-head", PolicyName="workers")["PolicyDocument"]
    )
    assert group["GroupId"] in document and "123456789012" in document
    assert not any(word in document for word in ("ACCOUNT", "REGION", "GROUP", "CLUSTER"))
    for name in ("ristune-head", "ristune-worker"):
        profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        assert [role["RoleName"] for role in profile["Roles"]] == [name]
    blocked = client("s3").get_public_access_block(Bucket="trials-of-mine")
    assert all(blocked["PublicAccessBlockConfiguration"].values())
