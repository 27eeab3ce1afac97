"""The roles of head and workers: no right beyond one bucket and one cluster's machines."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "cluster" / "aws"
# What stands in the documents for what create.sh knows.
WORDS = {
    "BUCKET": "mine",
    "REGION": "eu-west-1",
    "ACCOUNT": "123456789012",
    "GROUP": "sg-1",
    "CLUSTER": "ristune",
}


def statements(name):
    text = (FOLDER / f"{name}-policy.json").read_text()
    for word, value in WORDS.items():
        text = text.replace(word, value)
    return json.loads(text)["Statement"]


def listed(value):
    return [value] if isinstance(value, str) else value


def too_wide(found):
    """What a statement allows beyond the bucket and the cluster's machines."""
    for statement in found:
        condition = json.dumps(statement.get("Condition", {}))
        for action in listed(statement["Action"]):
            if "*" in action or statement["Effect"] != "Allow":
                yield f"{action} is a pattern"
            service = action.partition(":")[0]
            for resource in listed(statement["Resource"]):
                machine = ":instance/" in resource
                if service == "s3":
                    fine = resource in ("arn:aws:s3:::mine", "arn:aws:s3:::mine/*")
                elif action == "ec2:DescribeInstances":
                    fine = "aws:RequestedRegion" in condition
                elif action == "iam:PassRole":
                    fine = resource.endswith(":role/ristune-worker") and "iam:PassedToService" in condition
                elif action == "ssm:GetParameters":
                    fine = resource == "arn:aws:ssm:eu-west-1::parameter/aws/service/deeplearning/*"
                elif action == "ec2:RunInstances" and not machine:
                    fine = (
                        resource.startswith("arn:aws:ec2:eu-west-1:") and ":security-group/*" not in resource
                    )
                elif action == "ec2:RunInstances":
                    fine = '"aws:RequestTag/ray-cluster-name": "ristune"' in condition
                    fine &= "instance-profile/ristune-worker" in condition
                elif action == "ec2:TerminateInstances":
                    fine = machine and '"aws:ResourceTag/ray-cluster-name": "ristune"' in condition
                elif action == "ec2:CreateTags":
                    fine = "ec2:CreateAction" in condition or "aws:ResourceTag/ray-cluster-name" in condition
                else:
                    fine = False
                if not fine:
                    yield f"{action} on {resource}"


@pytest.mark.parametrize("name", ["bucket", "head"])
def test_a_role_may_do_nothing_beyond_its_bucket_and_cluster(name):
    assert list(too_wide(statements(name))) == []


@pytest.mark.parametrize(
    "planted",
    [
        {"Action": "s3:*", "Resource": "arn:aws:s3:::mine/*"},
        {"Action": "s3:GetObject", "Resource": "*"},
        {"Action": "ec2:TerminateInstances", "Resource": "arn:aws:ec2:eu-west-1:123456789012:instance/*"},
        {"Action": "iam:PassRole", "Resource": "*"},
        {"Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:eu-west-1:123456789012:security-group/*"},
        {"Action": "iam:CreateUser", "Resource": "*"},
    ],
)
def test_a_right_too_many_is_found(planted):
    assert list(too_wide([{"Effect": "Allow", **planted}])) != []


def test_only_machines_take_the_roles():
    (statement,) = statements("trust")
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"


def test_policies_fit_where_iam_keeps_them():
    for name in ("bucket", "head"):
        assert len(json.dumps(statements(name), separators=(",", ":"))) < 10_240
