"""An S3-style server on loopback that fails on command, and counts what it was asked."""

import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Fault:
    """What goes wrong with the next requests that match.

    Attributes:
        kind: `status` (an error answer), `reset` (the connection), `stall` (half the body, then silence),
            `cut` (half the body, then the end), `short` (half the body with a Content-Length that says so),
            `flip` (one wrong byte), `drop` (a part that is confirmed but stored by half).
        times: how many requests it meets.
        method: of these requests; any where it is empty.
        key: `bucket/key` of these requests; any where it is empty.
        status: the HTTP status of `status`.
        code: the S3 error code of `status`.
        message: its text.
    """

    kind: str
    times: int = 1
    method: str = "GET"
    key: str = ""
    status: int = 503
    code: str = "SlowDown"
    message: str = "a scripted fault"


@dataclass(frozen=True)
class Request:
    """One request as it came.

    Attributes:
        method: HTTP method.
        key: `bucket/key`.
        query: what followed `?`.
        range: the first and last byte asked for, or None.
        access_key: who signed it; empty for nobody.
        authorization: the header as sent.
    """

    method: str
    key: str
    query: str
    range: tuple[int, int] | None
    access_key: str
    authorization: str


@dataclass
class FaultServer:
    """A bucket store in memory; `faults` are used up from the front.

    Attributes:
        objects: content by `bucket/key`; a bucket exists as soon as it is in `buckets`.
        buckets: their names.
        accepted: access keys that are let in; everybody where it is None.
        refusal: the status and code that others get.
        faults: what is still to go wrong.
        requests: everything asked so far.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=lambda: {"bucket"})
    accepted: set[str] | None = None
    refusal: tuple[int, str] = (403, "InvalidAccessKeyId")
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    endpoint: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def count(self, method: str, key: str = "") -> int:
        """How many requests came with a method, for a key or for any."""
        return sum(r.method == method and key in ("", r.key) for r in self.requests)

    def counts(self) -> Counter[str]:
        """Requests by method."""
        return Counter(r.method for r in self.requests)

    def take_fault(self, request: Request) -> Fault | None:
        """Record a request; the fault that it meets."""
        with self.lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and fault.method in ("", request.method) and fault.key in ("", request.key):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def fault_server() -> Iterator[FaultServer]:
    """A running server on a free port of 127.0.0.1; stalled answers end with it."""
    state = FaultServer()
    handler = type("Handler", (_Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FaultServer

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the tests read `requests`."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            # A client that gave up is what stalls and resets are for.
            self.close_connection = True

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        header = self.headers.get("Authorization", "")
        signer = re.search(r"Credential=([^/]+)/", header)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        span = (int(wanted[1]), int(wanted[2])) if wanted else None
        key = unquote(parts.path).lstrip("/")
        request = Request(self.command, key, parts.query, span, signer[1] if signer else "", header)
        fault = self.state.take_fault(request)
        if fault is not None and fault.kind == "status":
            self._error(fault.status, fault.code, fault.message)
        elif fault is not None and fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
        elif self.state.accepted is not None and request.access_key not in self.state.accepted:
            self._error(*self.state.refusal, "not let in")
        elif key.split("/")[0] not in self.state.buckets:
            self._error(404, "NoSuchBucket", "no such bucket")
        else:
            self._serve(request, parse_qs(parts.query, keep_blank_values=True), body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _serve(self, request: Request, query: dict[str, list[str]], body: bytes, fault: Fault | None) -> None:
        objects, key = self.state.objects, request.key
        if request.method == "GET" and "list-type" in query:
            self._list(key, query)
        elif request.method in ("GET", "HEAD"):
            self._read(request, fault)
        elif request.method == "PUT" and "partNumber" in query:
            half = fault is not None and fault.kind == "drop"
            parts = self.state.uploads[query["uploadId"][0]]
            parts[int(query["partNumber"][0])] = body[: len(body) // 2] if half else body
            self._send(200, b"", {"ETag": '"part"'})
        elif request.method == "PUT":
            objects[key] = body
            self._send(200, b"", {"ETag": '"whole"'})
        elif request.method == "POST" and "uploads" in query:
            upload = f"upload-{len(self.state.uploads)}"
            self.state.uploads[upload] = {}
            self._send(
                200,
                _xml(
                    f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>",
                    "</InitiateMultipartUploadResult>",
                ),
            )
        elif request.method == "POST" and "uploadId" in query:
            parts = self.state.uploads.pop(query["uploadId"][0])
            objects[key] = b"".join(parts[number] for number in sorted(parts))
            self._send(
                200,
                _xml("<CompleteMultipartUploadResult><ETag>whole</ETag>", "</CompleteMultipartUploadResult>"),
            )
        elif request.method == "POST" and "delete" in query:
            for name in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                objects.pop(f"{key.rstrip('/')}/{name}", None)
            self._send(200, _xml("<DeleteResult>", "</DeleteResult>"))
        elif request.method == "DELETE":
            objects.pop(key, None)
            self._send(204, b"")
        else:
            self._error(501, "NotImplemented", request.method)

    def _read(self, request: Request, fault: Fault | None) -> None:
        bucket, _, key = request.key.partition("/")
        if not key:
            self._send(200, b"")
            return
        if request.key not in self.state.objects:
            self._error(404, "NoSuchKey", "no such key")
            return
        data = self.state.objects[request.key]
        headers, status = {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "ETag": '"whole"'}, 200
        if request.range is not None:
            first, last = request.range[0], min(request.range[1], len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        kind = fault.kind if fault is not None else ""
        half = data[: len(data) // 2]
        if kind == "flip":
            data = half + bytes([data[len(half)] ^ 1]) + data[len(half) + 1 :]
        elif kind == "short":
            data = half
        length = len(data)
        self._send(status, half if kind in ("stall", "cut") else data, headers, length)
        if kind == "stall":
            self.wfile.flush()
            self.state.closing.wait()
        if kind in ("stall", "cut"):
            self.close_connection = True

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, split = query.get("prefix", [""])[0], "delimiter" in query
        files, folders = [], set()
        for name, data in sorted(self.state.objects.items()):
            key = name.removeprefix(f"{bucket.rstrip('/')}/")
            if key == name or not key.startswith(prefix):
                continue
            head, slash, _ = key[len(prefix) :].partition("/")
            if split and slash:
                folders.add(prefix + head + slash)
            else:
                files.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        common = [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)]
        inside = f"<KeyCount>{len(files) + len(common)}</KeyCount><IsTruncated>false</IsTruncated>"
        self._send(200, _xml("<ListBucketResult>" + inside + "".join(files + common), "</ListBucketResult>"))

    def _error(self, status: int, code: str, message: str) -> None:
        text = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>"
        self._send(status, _xml(text, "</Error>"))

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if "ETag" not in (headers or {}):
            self.send_header("Content-Type", "application/xml")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _xml(start: str, end: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>{start}{end}'.encode()
