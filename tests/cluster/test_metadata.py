import socket
from datetime import UTC, datetime, timedelta

import pytest

from ristune.cluster import metadata as module
from ristune.cluster.metadata import AWS, GCP, Nobody, Silent, make_provider
from tests.cluster.metadata_server import MetadataServer


def in_two_minutes() -> dict[str, str]:
    time = datetime.now(UTC) + timedelta(seconds=120)
    return {"action": "terminate", "time": time.strftime("%Y-%m-%dT%H:%M:%SZ")}


def test_aws_gives_notice_with_an_action_and_the_time_that_is_left(metadata: MetadataServer) -> None:
    provider = AWS(metadata.endpoint)
    assert provider.ask() is None
    metadata.action = in_two_minutes()
    taking = provider.ask()
    assert taking is not None
    assert taking.reason == f"aws: terminate at {metadata.action['time']}"
    assert taking.seconds is not None
    assert 60 < taking.seconds <= 120


def test_a_machine_of_aws_that_should_be_gone_has_no_time_left(metadata: MetadataServer) -> None:
    metadata.action = {"action": "stop", "time": "2020-01-01T00:00:00Z"}
    taking = AWS(metadata.endpoint).ask()
    assert taking is not None
    assert taking.seconds == 0


def test_a_recommendation_to_rebalance_is_no_notice(metadata: MetadataServer) -> None:
    metadata.rebalance = True
    assert AWS(metadata.endpoint).ask() is None


def test_a_token_is_asked_for_once_and_again_when_it_is_too_old(metadata: MetadataServer) -> None:
    provider = AWS(metadata.endpoint)
    for _ in range(3):
        assert provider.ask() is None
    assert [method for method, _ in metadata.seen].count("PUT") == 1
    metadata.expire()
    metadata.action = in_two_minutes()
    assert provider.ask() is not None
    assert [method for method, _ in metadata.seen].count("PUT") == 2


@pytest.mark.parametrize("action", ["<html>", "[]", '{"action": "terminate"}', '{"time": "soon"}'])
def test_what_aws_does_not_describe_is_no_notice(metadata: MetadataServer, action: str) -> None:
    metadata.action = action
    with pytest.raises(Silent, match="not what AWS describes"):
        AWS(metadata.endpoint).ask()


def test_google_cloud_gives_notice_by_a_word(metadata: MetadataServer) -> None:
    provider = GCP(metadata.endpoint)
    assert provider.ask() is None
    metadata.preempted = "TRUE\n"
    taking = provider.ask()
    assert taking is not None
    assert (taking.reason, taking.seconds) == ("gcp: preempted", 30)
    metadata.preempted = "PERHAPS"
    with pytest.raises(Silent, match="PERHAPS"):
        provider.ask()


@pytest.mark.parametrize("name", ["aws", "gcp"])
@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_refusal_is_no_notice(metadata: MetadataServer, name: str, status: int) -> None:
    metadata.action, metadata.preempted, metadata.status = in_two_minutes(), "TRUE", status
    with pytest.raises(Silent, match=str(status)):
        make_provider(name, metadata.endpoint).ask()


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_no_answer_is_no_notice(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        # It takes connections, and says nothing; closed, it refuses them.
        mute.listen()
        provider = make_provider(name, f"http://127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(Silent):
            provider.ask()
    with pytest.raises(Silent):
        provider.ask()


def test_the_environments_proxy_is_not_asked(
    metadata: MetadataServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert AWS(metadata.endpoint).ask() is None


def test_one_s_own_machines_give_no_notice() -> None:
    provider = make_provider("none", None)
    assert isinstance(provider, Nobody)
    assert provider.ask() is None
