"""What a cloud tells its machines of their end, by the metadata service that each of them can reach."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Protocol

# Seconds for an answer: the service is on the machine's own host.
TIMEOUT = 2.0
# Seconds for which a token of AWS is asked.
TOKEN_LIFE = 21600
# Seconds that Google Cloud leaves a machine after its notice.
GCP_SECONDS = 30.0


@dataclass(frozen=True)
class Taking:
    """A machine is about to be taken away.

    Attributes:
        reason: in a line.
        seconds: that are left; None if nobody has said.
    """

    reason: str
    seconds: float | None


class Silent(Exception):
    """The service does not answer, or not as it should: nothing is known."""


class Provider(Protocol):
    """Where machines come from."""

    def ask(self) -> Taking | None:
        """What is to become of this machine; None if it stays.

        Raises:
            Silent: the service does not say.
        """


class Nobody:
    """Machines of one's own: only a signal says that they are needed."""

    def ask(self) -> Taking | None:
        """Nothing is ever said."""
        return None


class AWS:
    """EC2's instance metadata service, version 2; a recommendation to rebalance is no notice.

    Args:
        endpoint: of the service.
    """

    ENDPOINT = "http://169.254.169.254"
    _ACTION = "/latest/meta-data/spot/instance-action"

    def __init__(self, endpoint: str = ENDPOINT) -> None:
        self._endpoint = endpoint
        self._token = ""

    def ask(self) -> Taking | None:
        """The action that is planned for a spot machine."""
        if not self._token:
            self._token = self._new_token()
        status, body = self._action()
        if status == HTTPStatus.UNAUTHORIZED:
            # The token is too old, or of a machine that has slept.
            self._token = self._new_token()
            status, body = self._action()
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            raise Silent(f"{self._ACTION} was answered with status {status}")
        try:
            action = json.loads(body)
            left = datetime.fromisoformat(action["time"]) - datetime.now(UTC)
            return Taking(f"aws: {action['action']} at {action['time']}", max(0.0, left.total_seconds()))
        except (ValueError, TypeError, KeyError) as error:
            raise Silent(f"{self._ACTION} is not what AWS describes: {body[:80]!r}") from error

    def _action(self) -> tuple[int, str]:
        return _request(self._endpoint + self._ACTION, {"X-aws-ec2-metadata-token": self._token})

    def _new_token(self) -> str:
        life = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LIFE)}
        status, body = _request(f"{self._endpoint}/latest/api/token", life, "PUT")
        if status != HTTPStatus.OK:
            raise Silent(f"a token was refused with status {status}")
        return body


class GCP:
    """Google Cloud's metadata server.

    Args:
        endpoint: of the server.
    """

    ENDPOINT = "http://metadata.google.internal"
    _PREEMPTED = "/computeMetadata/v1/instance/preempted"

    def __init__(self, endpoint: str = ENDPOINT) -> None:
        self._endpoint = endpoint

    def ask(self) -> Taking | None:
        """Whether a spot machine is preempted."""
        status, body = _request(self._endpoint + self._PREEMPTED, {"Metadata-Flavor": "Google"})
        answer = body.strip()
        if status != HTTPStatus.OK or answer not in ("TRUE", "FALSE"):
            raise Silent(f"{self._PREEMPTED} was answered with status {status}: {answer[:80]!r}")
        return Taking("gcp: preempted", GCP_SECONDS) if answer == "TRUE" else None


def make_provider(name: str, endpoint: str | None) -> Provider:
    """The provider of a name.

    Args:
        name: aws, gcp or none.
        endpoint: of its service; None for the real one.
    """
    if name == "aws":
        return AWS(endpoint or AWS.ENDPOINT)
    return GCP(endpoint or GCP.ENDPOINT) if name == "gcp" else Nobody()


def _request(url: str, headers: Mapping[str, str], method: str = "GET") -> tuple[int, str]:
    """The status and the text of an answer."""
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    # No proxy of the environment: it would ask about its own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""
    except (OSError, HTTPException, UnicodeDecodeError) as error:
        raise Silent(f"{url}: {error}") from error
