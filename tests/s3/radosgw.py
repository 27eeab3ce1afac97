"""A real S3 server on loopback: Ceph's radosgw over one monitor and one OSD in memory, signatures checked.

`python -m tests.s3.radosgw` runs one until Ctrl-C and prints how to reach it.
"""

import atexit
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

from pyarrow.fs import S3FileSystem

from tests.s3.ceph_conf import ceph_conf

BINARIES = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
START_SECONDS = 120.0
# Line of radosgw's log for a request: method, path, status, bytes sent, as far as they are needed.
_REQUEST = re.compile(r'beast: \S+: .*?"(\w+) (\S+) HTTP/[\d.]+" (\d+) (\d+)')


@dataclass(frozen=True)
class Logged:
    """A request as the server logged it.

    Attributes:
        method: HTTP method.
        key: `bucket/key`, without the query.
        status: HTTP status of the answer.
        bytes: its body.
    """

    method: str
    key: str
    status: int
    bytes: int


@dataclass(frozen=True)
class Keys:
    """An account's access key and secret key."""

    access: str
    secret: str


class Radosgw:
    """A running server; use it as a context manager.

    Args:
        memory: what the store may hold, bytes.
        address: of this machine, on which it listens.
    """

    def __init__(self, memory: int = 3 * 2**30, address: str = "127.0.0.1") -> None:
        missing = [name for name in BINARIES if shutil.which(name) is None]
        if missing:
            raise RuntimeError(
                f"{', '.join(missing)} not found: run `make tools`, or apt-get install {PACKAGES}"
            )
        self._memory = memory
        self._address = address
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cleanup = ExitStack()
        self.endpoint = ""
        self.keys = Keys("", "")

    def __enter__(self) -> "Radosgw":
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="radosgw-"))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(self._stop)
            # Also where an interpreter ends without leaving the block.
            atexit.register(self.close)
            stack.callback(atexit.unregister, self.close)
            self._start()
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes and remove what they wrote; again is no error."""
        self._cleanup.close()

    def uri(self, bucket: str, prefix: str = "", **settings: object) -> str:
        """The URI of a place in a bucket, with settings for `open_storage`."""
        said = "".join(f"&{key}={value}" for key, value in settings.items())
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}{said}"

    def add_key(self, user: str = "tester") -> Keys:
        """A further key of an account, made if it is not there."""
        keys = Keys(f"A{uuid4().hex[:19].upper()}", uuid4().hex + uuid4().hex[:8])
        known = self._admin("user", "list")
        if user not in known:
            self._admin("user", "create", f"--uid={user}", f"--display-name={user}", *_spelled(keys))
        else:
            self._admin("key", "create", f"--uid={user}", "--key-type=s3", *_spelled(keys))
        return keys

    def remove_key(self, keys: Keys, user: str = "tester") -> None:
        """Make a key worthless, now."""
        self._admin("key", "rm", f"--uid={user}", "--key-type=s3", f"--access-key={keys.access}")

    def make_bucket(self, name: str) -> None:
        """Make a bucket that the first account owns."""
        self.filesystem(allow_bucket_creation=True).create_dir(name)

    def make_public(self, bucket: str) -> None:
        """Let everybody read the objects of a bucket, signed or not."""
        policy = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": ["s3:GetObject"],
                    "Resource": [f"arn:aws:s3:::{bucket}/*"],
                }
            ],
        }
        self._signed("PUT", f"/{bucket}", "policy=", json.dumps(policy).encode())

    def filesystem(self, keys: Keys | None = None, **options: Any) -> S3FileSystem:
        """pyarrow's plain filesystem on this server, beside what is tested."""
        keys = keys or self.keys
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        return S3FileSystem(
            access_key=keys.access,
            secret_key=keys.secret,
            endpoint_override=self.endpoint,
            region="us-east-1",
            **options,
        )

    def requests(self, since: int = 0) -> list[Logged]:
        """What was asked so far, in order, without the first `since`; waits for the log to come to rest."""
        log, size = self.folder / "log" / "rgw.log", -1
        while log.stat().st_size != size:
            size = log.stat().st_size
            time.sleep(0.3)
        found = _REQUEST.findall(log.read_text(errors="replace"))
        logged = [
            Logged(method, unquote(path.partition("?")[0]).lstrip("/"), int(status), int(sent))
            for method, path, status, sent in found
        ]
        return logged[since:]

    def _start(self) -> None:
        for name in ("run", "log", "mon", "osd", "rgw"):
            (self.folder / name).mkdir()
        mon_port, mon_port_old, port = _free_ports("127.0.0.1", "127.0.0.1", self._address)
        fsid, osd = str(uuid4()), str(uuid4())
        addresses = f"[v2:127.0.0.1:{mon_port}/0,v1:127.0.0.1:{mon_port_old}/0]"
        (self.folder / "ceph.conf").write_text(
            ceph_conf(self.folder, fsid, addresses, f"{self._address}:{port}", self._memory)
        )
        keyring = str(self.folder / "keyring")
        allow = ["--cap", "mon", "allow *"]
        everything = [*allow, "--cap", "osd", "allow *", "--cap", "mgr", "allow *", "--cap", "mds", "allow *"]
        self._tool("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", *allow)
        self._tool("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
        monmap = str(self.folder / "monmap")
        self._tool("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, monmap)
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-i", "a")
        self._until("the monitor", lambda: self._answers("ceph", "--connect-timeout", "5", "status"))
        self._tool("ceph", "osd", "new", osd)
        caps = ["mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"]
        self._tool(
            "ceph", "auth", "get-or-create", "osd.0", *caps, "-o", str(self.folder / "osd" / "keyring")
        )
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-i", "0")
        self._until("the OSD", lambda: "1 up" in self._tool("ceph", "osd", "stat"))
        self._daemon("radosgw", "-n", "client.admin")
        self._until("radosgw", lambda: _listening(self._address, port))
        self.endpoint = f"http://{self._address}:{port}"
        self.keys = self.add_key()

    def _tool(self, *command: str) -> str:
        program, *arguments = command
        line = [program, "-c", str(self.folder / "ceph.conf"), *arguments]
        if program in ("ceph-authtool", "monmaptool"):
            line = list(command)
        done = subprocess.run(line, capture_output=True, text=True, timeout=START_SECONDS)
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(line)} failed with status {done.returncode}:\n{done.stderr[-2000:]}"
            )
        return done.stdout

    def _admin(self, *arguments: str) -> Any:
        text = self._tool("radosgw-admin", *arguments)
        return json.loads(text) if text.strip() else None

    def _signed(self, method: str, path: str, query: str, body: bytes) -> None:
        """Send a request that pyarrow has no call for, signed by version 4 of AWS's rules."""
        host = urlsplit(self.endpoint).netloc
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        names = ";".join(headers)
        lines = [f"{name}:{value}" for name, value in headers.items()]
        canonical = "\n".join([method, path, query, *lines, "", names, digest])
        key = f"AWS4{self.keys.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"Credential={self.keys.access}/{scope}"
        signed = f"{credential},SignedHeaders={names},Signature={signature}"
        headers["authorization"] = f"AWS4-HMAC-SHA256 {signed}"
        request = Request(f"{self.endpoint}{path}?{query}", body, headers, method=method)
        with urlopen(request, timeout=START_SECONDS):
            pass

    def _answers(self, *command: str) -> bool:
        try:
            self._tool(*command)
        except RuntimeError:
            return False
        return True

    def _daemon(self, program: str, *arguments: str) -> None:
        log = self.folder / "log" / f"{program}.out"
        line = [program, "-c", str(self.folder / "ceph.conf"), "-f", *arguments]
        with log.open("wb") as out:
            # A session of its own: Ctrl-C in the terminal is for the tests, which then stop it in order.
            process = subprocess.Popen(line, stdout=out, stderr=out, start_new_session=True)
        self._processes.append(process)

    def _until(self, what: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while not ready():
            dead = [p for p in self._processes if p.poll() is not None]
            if dead or time.monotonic() > end:
                texts = [f"{p.name}:\n{p.read_text()[-2000:]}" for p in self.folder.glob("log/*.out")]
                raise RuntimeError(f"{what} did not start\n" + "\n".join(texts))
            time.sleep(0.2)

    def _stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()


def _spelled(keys: Keys) -> tuple[str, str]:
    return (f"--access-key={keys.access}", f"--secret-key={keys.secret}")


def _free_ports(*addresses: str) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in addresses]
        for each, address in zip(sockets, addresses, strict=True):
            each.bind((address, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _listening(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def main() -> None:
    """Run a server until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Radosgw() as server:
            server.make_bucket("data")
            print(f"export AWS_ENDPOINT_URL_S3={server.endpoint}")
            print(f"export AWS_ACCESS_KEY_ID={server.keys.access} AWS_SECRET_ACCESS_KEY={server.keys.secret}")
            print("# the bucket s3://data is there; Ctrl-C stops the server", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
