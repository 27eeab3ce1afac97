"""The Kubernetes manifests by the schemas of Kubernetes and KubeRay; unknown fields are refused."""

import copy
import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

FOLDER = Path(__file__).parents[2] / "cluster" / "kuberay"
KUBERNETES = "v1.33.0-local-strict"


@pytest.fixture(scope="module")
def validator():
    schemas = files("kubernetes_validate") / "kubernetes-json-schema" / KUBERNETES
    definitions = json.loads((schemas / "_definitions.json").read_text())
    names = {name.rpartition(".")[2]: name for name in definitions["$defs"] if ".core.v1." in name}
    names["ObjectMeta"] = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

    def kind(uri):
        reference = f"{definitions['$id']}#/$defs/{names[uri.removeprefix('kubernetes:')]}"
        return DRAFT202012.create_resource({"$ref": reference})

    schema = json.loads((Path(__file__).parent / "kuberay.json").read_text())
    registry = Registry(retrieve=kind).with_resource(
        definitions["$id"], DRAFT202012.create_resource(definitions)
    )
    return Draft202012Validator(schema, registry=registry)


@pytest.fixture(params=["raycluster", "rayjob"])
def manifest(request):
    return yaml.safe_load((FOLDER / f"{request.param}.yaml").read_text())


def cluster_of(manifest):
    return manifest["spec"].get("rayClusterSpec", manifest["spec"])


def faults(validator, manifest):
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]


def test_the_manifests_are_valid(validator, manifest):
    assert faults(validator, manifest) == []


def container(manifest):
    return cluster_of(manifest)["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda m: cluster_of(m).update(authOption={"mode": "token"}), "authOption"),
        (lambda m: cluster_of(m)["authOptions"].update(mode="tokens"), "tokens"),
        (lambda m: cluster_of(m)["workerGroupSpecs"][0].update(maxReplica=8), "maxReplica"),
        (lambda m: cluster_of(m)["workerGroupSpecs"][0].pop("groupName"), "groupName"),
        (lambda m: container(m).update(volumeMount=[]), "volumeMount"),
        (lambda m: container(m)["securityContext"].update(privilegeEscalation=False), "privilegeEscalation"),
        (lambda m: m["metadata"].update(label={}), "label"),
        (lambda m: m.update(spek={}), "spek"),
    ],
)
def test_a_planted_mistake_is_found(validator, manifest, plant, message):
    # YAML's anchors make one object of many places.
    planted = json.loads(json.dumps(copy.deepcopy(manifest)))
    plant(planted)
    assert any(message in fault for fault in faults(validator, planted))


def test_nodes_need_the_token_and_run_the_pinned_ray(manifest):
    cluster = cluster_of(manifest)
    assert cluster["authOptions"] == {"mode": "token"}
    pins = (FOLDER.parents[1] / "constraints.txt").read_text().splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins


def test_both_manifests_have_the_same_cluster():
    one, other = (
        cluster_of(yaml.safe_load((FOLDER / f"{name}.yaml").read_text())) for name in ("raycluster", "rayjob")
    )
    assert one == other


def test_pods_run_without_root_and_check_their_node_first(manifest):
    cluster = cluster_of(manifest)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for each in pod["initContainers"] + pod["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
        (check,) = pod["initContainers"]
        on_gpus = "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
        assert (
            check["command"][2] == "ristune.cluster.node_check" and ("--gpu" in check["command"]) == on_gpus
        )


def test_workers_come_from_none_and_prefer_spot(manifest):
    (group,) = cluster_of(manifest)["workerGroupSpecs"]
    assert (group["minReplicas"], group["replicas"]) == (0, 0) and group["maxReplicas"] == 8
    affinity = group["template"]["spec"]["affinity"]["nodeAffinity"]
    keys = {
        rule["key"]
        for each in affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        for rule in each["preference"]["matchExpressions"]
    }
    # Preferred and not required: without spot nodes the pods go to others.
    assert keys == {"karpenter.sh/capacity-type", "cloud.google.com/gke-spot"} and len(affinity) == 1
