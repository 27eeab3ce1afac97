import shlex

import pytest

from ristune.cluster.launcher import Head
from ristune.cluster.tunnel import ConnectionLost, inside, ssh, tunnel


def test_only_the_clusters_key_is_offered():
    words = ssh(Head("10.0.0.1", "me", "/keys/id"), "true")
    assert words[-2:] == ["me@10.0.0.1", "true"]
    assert words[words.index("-i") + 1] == "/keys/id" and "IdentitiesOnly=yes" in words
    assert "IdentitiesOnly=yes" not in ssh(Head("10.0.0.1", "me"), "true")


def test_a_command_arrives_whole_inside_a_container():
    command = "python3 -m ristune.sweep status 'a b'"
    words = shlex.split(inside(command, "ray box"))
    assert words == ["docker", "exec", "-i", "ray box", "bash", "--login", "-c", command]
    assert shlex.split(inside(command, None))[-1] == command


def test_a_head_that_cannot_be_logged_in_to_is_named_with_the_reason(tmp_path):
    head = Head("127.0.0.1", "nobody", str(tmp_path / "key"), proxy="false")
    with pytest.raises(ConnectionLost, match=r"ssh nobody@127.0.0.1: .*[Cc]losed"), tunnel(head, 8265):
        pass
