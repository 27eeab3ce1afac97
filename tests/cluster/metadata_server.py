"""A stand-in for the metadata services of AWS and Google Cloud, on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN, LIFE = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"


class MetadataServer(ThreadingHTTPServer):
    """Answers as both clouds do.

    Attributes:
        action: what AWS plans for the machine; None for nothing.
        rebalance: whether AWS recommends to leave the machine.
        preempted: what Google Cloud says.
        answers: what it says before that, one after the other.
        status: that every answer has instead; 0 for none.
        seen: method and path of each request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.action: dict[str, str] | str | None = None
        self.rebalance = False
        self.preempted = "FALSE"
        self.answers: list[str] = []
        self.status = 0
        self.seen: list[tuple[str, str]] = []
        self.tokens: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def expire(self) -> None:
        """Tokens that were given are too old."""
        self.tokens.append("expired")

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        self.seen.append((method, path))
        if self.status:
            return self.status, "not now"
        if (method, path) == ("PUT", "/latest/api/token"):
            if not headers.get(LIFE, "").isdigit():
                return 400, ""
            self.tokens.append(f"token-{len(self.tokens)}")
            return 200, self.tokens[-1]
        if path.startswith("/latest/"):
            if not self.tokens or headers.get(TOKEN) != self.tokens[-1]:
                return 401, ""
            if path == "/latest/meta-data/spot/instance-action" and self.action is not None:
                return 200, self.action if isinstance(self.action, str) else json.dumps(self.action)
            if path == "/latest/meta-data/events/recommendations/rebalance" and self.rebalance:
                return 200, json.dumps({"noticeTime": "2026-01-01T00:00:00Z"})
        if path == "/computeMetadata/v1/instance/preempted":
            if self.answers:
                self.preempted = self.answers.pop(0)
            return (200, self.preempted) if headers.get("Metadata-Flavor") == "Google" else (403, "")
        return 404, "not found"


class _Handler(BaseHTTPRequestHandler):
    server: MetadataServer

    def do_GET(self) -> None:
        # Names of headers mean the same in any case.
        known = {name.lower(): name for name in (TOKEN, LIFE, "Metadata-Flavor")}
        headers = {known.get(name.lower(), name): value for name, value in self.headers.items()}
        status, body = self.server.answer(self.command, self.path, headers)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_PUT = do_GET

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[MetadataServer]:
    """The server, for the time of a test."""
    with MetadataServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
