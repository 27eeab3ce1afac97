"""A simulated AWS on loopback: moto, with a switch that makes EC2 refuse spot machines."""

import threading
from collections.abc import Iterable
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl
from urllib.request import Request, urlopen

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REFUSAL = b"""<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error>
<Code>InsufficientInstanceCapacity</Code><Message>There is no Spot capacity available.</Message>
</Error></Errors><RequestID>1</RequestID></Response>"""


class Quiet(WSGIRequestHandler):
    """Answers without a line on stderr for each."""

    def log(self, *_: Any) -> None:
        pass


class Ec2:
    """A running server; use it as a context manager.

    Attributes:
        launches: each request for machines as it was sent, field by field.
        refuses_spot: whether requests for spot machines fail as EC2 fails them.
    """

    def __init__(self) -> None:
        self.launches: list[dict[str, str]] = []
        self.refuses_spot = False
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Ec2":
        self._thread.start()
        # moto keeps one account a process: whatever another server of it has left goes.
        reset = Request(f"{self.environment['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")
        urlopen(reset, timeout=60).close()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        form = dict(parse_qsl(body.decode(errors="replace")))
        if form.get("Action") == "RunInstances":
            self.launches.append(form)
            if self.refuses_spot and form.get("InstanceMarketOptions.MarketType") == "spot":
                start_response("500 Internal Server Error", [("Content-Type", "text/xml")])
                return [REFUSAL]
        return self._moto(environ, start_response)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead AWS's libraries and its command here."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
