from dataclasses import replace

import pytest

from ristune.cluster import facts
from ristune.cluster.facts import Clock, Expected, Node, Software, Space, Store
from ristune.cluster.finding import Severity
from ristune.cluster.probe import driver_version

VERSIONS = (("Ray", "2.60.0"), ("Python", "3.11.7"), ("torch", "2.13.0+cu130"), ("ristune", "0.1.0"))
SOUND = Node(
    name="10.0.0.3 worker abcdef",
    address="10.0.0.3",
    head=False,
    gpus=1,
    software=Software(VERSIONS, "570.86.15", 1),
    clock=Clock(0.001, 0.002),
    store=Store(100e6, 200e6, True),
    space=Space("/home/me/.cache/ristune", 150 * 10**9),
)
HEAD = replace(SOUND, name="10.0.0.2 head 012345", address="10.0.0.2", head=True, gpus=0)
EXPECTED = Expected(VERSIONS, ("10.0.0.2", "10.0.0.3"), 2, "s3://bucket/runs", 50 * 10**9)
CHECKS = (facts.answers, facts.software, facts.gpus, facts.clock, facts.storage, facts.cache_space)


def found(worker, expected=EXPECTED):
    return [each for check in CHECKS for each in check([HEAD, worker], expected).findings]


def versions(**other):
    return replace(SOUND.software, versions=tuple((name, other.get(name, was)) for name, was in VERSIONS))


def test_nodes_that_agree_are_sound():
    assert found(SOUND) == []


@pytest.mark.parametrize(
    ("change", "severity", "text"),
    [
        (
            {"software": versions(Ray="2.59.0")},
            "error",
            "got Ray 2.59.0; all nodes must run the same Ray; the head",
        ),
        ({"software": versions(Python="3.12.7")}, "error", "got Python 3.12.7"),
        ({"software": versions(torch="2.12.0+cu130")}, "error", "got torch 2.12.0"),
        ({"software": versions(ristune="0.2.0")}, "error", "got ristune 0.2.0"),
        (
            {"software": Software(VERSIONS, "570.86.15", 0)},
            "error",
            "got torch sees 0 GPUs; Ray gives out 1 GPUs",
        ),
        ({"clock": Clock(-5.0, 0.01)}, "warning", "got -5.0 s (within 0.010)"),
        ({"clock": Clock(1000.0, 0.01)}, "error", "got +1000.0 s"),
        ({"store": Store(None, None, False, "it may not be written")}, "error", "it may not be written"),
        ({"store": Store(100e6, 200e6, False)}, "error", "it does not see there what another node wrote"),
        ({"store": Store(1e6, 200e6, True)}, "warning", "got written at 1.0, read at 200.0 MB/s"),
        ({"space": Space("/small", 10 * 10**9)}, "error", "got 10.0 GB in /small; the dataset takes 50.0 GB"),
        ({"space": Space("/shut", 0, "it must be writable")}, "error", "got /shut; it must be writable"),
        (
            {"fault": "no answer on its software for 120 s"},
            "error",
            "got no answer on its software for 120 s",
        ),
    ],
)
def test_a_node_that_differs_is_named(change, severity, text):
    (only,) = found(replace(SOUND, **change))
    assert only.place == SOUND.name and only.severity is Severity(severity) and text in only.text


@pytest.mark.parametrize(
    "change",
    [
        {"software": versions(Python="3.11.9")},
        {"software": versions(torch="2.13.0")},
        {"clock": Clock(5.0, 4.0)},
    ],
)
def test_what_makes_no_difference_is_not_named(change):
    assert found(replace(SOUND, **change)) == []


def test_a_host_of_the_file_that_has_not_joined_is_named():
    (only,) = found(SOUND, replace(EXPECTED, hosts=(*EXPECTED.hosts, "10.0.0.4")))
    assert only.place == "10.0.0.4" and "has not joined" in only.text


def test_fewer_nodes_than_the_file_asks_for_are_said():
    (only,) = found(SOUND, replace(EXPECTED, least=3))
    assert only.severity is Severity.WARNING and only.value == 2


def test_clocks_are_held_against_the_heads_and_not_the_asking_machines():
    ahead = [replace(node, clock=Clock(60.0, 0.001)) for node in (HEAD, SOUND)]
    assert facts.clock(ahead, EXPECTED).findings == ()


def test_drivers_that_differ_are_said():
    other = replace(SOUND, software=Software(VERSIONS, "535.1.2", 1))
    (only,) = facts.gpus([SOUND, other], EXPECTED).findings
    assert only.value == "535.1.2, 570.86.15" and only.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024",
            "550.54.15",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs@u1)",
            "570.86.15",
        ),
    ],
)
def test_the_drivers_version_is_read_from_what_it_says_of_itself(tmp_path, line, version):
    file = tmp_path / "version"
    assert driver_version(file) == ""
    file.write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
    assert driver_version(file) == version
