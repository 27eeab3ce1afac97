"""Whether AWS's library asks the machine it runs on for keys and region; a server stands in for it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ristune.errors import InputError
from ristune.storage.access import open_storage


class Machine(HTTPServer):
    """Notes what it is asked, and knows nothing."""

    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Machine

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_error(404)

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Machine(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def keys(tmp_path: Path, profile: str = "default") -> None:
    (tmp_path / ".aws").mkdir()
    text = f"[{profile}]\naws_access_key_id = a\naws_secret_access_key = b\n"
    (tmp_path / ".aws" / "credentials").write_text(text)


def connect() -> None:
    with pytest.raises(InputError, match="must answer within"):
        open_storage("s3://bucket/place?endpoint=http://127.0.0.1:9&deadline=0.2").list("")


def test_a_machine_is_not_asked_for_keys_that_are_in_a_file(machine: Machine, tmp_path: Path) -> None:
    keys(tmp_path)
    connect()
    assert machine.asked == []


def test_a_machine_is_not_asked_for_keys_that_are_in_the_environment(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    connect()
    assert machine.asked == []


def test_a_machine_is_asked_for_keys_that_are_nowhere_else(machine: Machine, tmp_path: Path) -> None:
    keys(tmp_path, "another")
    connect()
    assert any("security-credentials" in path or "token" in path for path in machine.asked)
