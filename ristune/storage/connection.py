"""Calls to one object store: the filesystem behind them, renewed credentials, failures told apart."""

import os
import threading
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSelector,
    FileSystem,
    FileType,
    GcsFileSystem,
    S3FileSystem,
)

from ristune.errors import InputError
from ristune.storage.failures import Failure, Kind, classify
from ristune.storage.location import Location, parse_endpoint
from ristune.storage.retry import GaveUp, Transient, retry

# Silence after which a read is given up; curl averages over some seconds, so a body that stalls half-way
# takes about six more.
READ_STALL_SECONDS = 3.0
# A store may take its time to confirm an upload.
WRITE_STALL_SECONDS = 30.0
CONNECT_SECONDS = 5.0
# pyarrow repeats a call at most once by itself: how long and how often is decided here.
_ATTEMPTS = 1
_NO_INSTANCE = "AWS_EC2_METADATA_DISABLED"
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
T = TypeVar("T")


class Connection:
    """Runs calls against a place in an object store; shared by threads, made anew in other processes.

    Args:
        location: the place; nothing is sent before the first call.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._lock = threading.Lock()
        self._filesystems: dict[bool, FileSystem] = {}

    def run(self, path: str, call: Callable[[FileSystem], T], *, writing: bool = False) -> T:
        """The result of a call, repeated while its failure may pass, once more with renewed credentials.

        Args:
            path: what it is about, relative to the place.
            call: raises what pyarrow raises, or `Transient`.
            writing: whether it may wait long for an answer.

        Raises:
            InputError: missing, refused, in another region, or still failing at the deadline.
        """
        renewed = self.location.anonymous

        def attempt() -> T:
            nonlocal renewed
            while True:
                filesystem = self._filesystem(writing)
                try:
                    return call(filesystem)
                except OSError as error:
                    failure = self._explain(classify(error), filesystem, path)
                # Raised outside the handler: a store's own text, which may hold a secret, is not kept.
                if failure.kind is Kind.TRANSIENT:
                    raise Transient(failure.text)
                if failure.kind is not Kind.REFUSED or renewed:
                    raise self._refusal(failure, filesystem, path)
                renewed = True
                self._renew(filesystem)

        try:
            return retry(attempt, self.location.deadline)
        except GaveUp as end:
            rule = (
                f"{self._host} must answer within {self.location.deadline:g} s; "
                f"{end.attempts} attempts in {end.seconds:.1f} s failed"
            )
            remedy = "check the store, the network and the endpoint, or allow more by ?deadline=SECONDS"
            raise InputError(self.location.name(path), end.cause, rule, remedy) from None

    def _filesystem(self, writing: bool) -> FileSystem:
        with self._lock:
            if writing not in self._filesystems:
                self._filesystems[writing] = _connect(self.location, writing)
            return self._filesystems[writing]

    def _renew(self, refused: FileSystem) -> None:
        """Forget what was refused, unless another thread has: the next filesystem reads credentials anew."""
        with self._lock:
            if any(filesystem is refused for filesystem in self._filesystems.values()):
                self._filesystems.clear()

    def _explain(self, failure: Failure, filesystem: FileSystem, path: str) -> Failure:
        """The failure itself, or where its answer was lost, what the store says of the object now."""
        if not failure.opaque:
            return failure
        try:
            info = filesystem.get_file_info(self.location.key(path))
        except OSError as error:
            return classify(error)
        if info.type is FileType.NotFound:
            return Failure(Kind.MISSING, "not found")
        return Failure(Kind.TRANSIENT, failure.text)

    def _refusal(self, failure: Failure, filesystem: FileSystem, path: str) -> InputError:
        name = self.location.name(path)
        if failure.kind is Kind.MISSING:
            bucket = self.location.bucket
            if self._says(filesystem, lambda: filesystem.get_file_info(bucket).type is FileType.NotFound):
                return missing_bucket(self.location)
            remedy = "check bucket and key; an object that is lost must be copied again"
            return InputError(name, failure.text, "an object that can be read is required", remedy)
        if failure.kind is Kind.REFUSED:
            return InputError(name, self._reason(failure, filesystem), *self._credentials())
        if failure.kind is Kind.ELSEWHERE:
            rule = "requests must go to the bucket's own region"
            return InputError(name, failure.text, rule, "add ?region=REGION to the URI, or set AWS_REGION")
        remedy = "check that it is such a store, and that the account may do this"
        return InputError(name, failure.text, f"{self._host} must allow the request", remedy)

    def _reason(self, failure: Failure, filesystem: FileSystem) -> str:
        """Why a request is refused: answers to HEAD and to ranges carry no code, one to a listing does."""
        nowhere = FileSelector(f"{self.location.bucket}/{uuid4().hex}", allow_not_found=True)
        try:
            filesystem.get_file_info(nowhere)
        except OSError as error:
            said = classify(error)
            return said.text if said.kind is Kind.REFUSED else failure.text
        return failure.text

    def _says(self, filesystem: FileSystem, question: Callable[[], bool]) -> bool:
        try:
            return question()
        except OSError:
            # Who may not ask about the bucket learns of the object alone.
            return False

    def _credentials(self) -> tuple[str, str]:
        """Rule and remedy for an account that is refused."""
        if self.location.anonymous:
            rule = f"{self._host} refuses requests that are not signed"
            return rule, "drop anonymous=true and give credentials, or make the bucket public"
        if self.location.scheme == "gs":
            places = (
                "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` or the instance's"
            )
        elif "AWS_ACCESS_KEY_ID" in os.environ:
            places = "the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN"
        else:
            profile = os.environ.get("AWS_PROFILE", "default")
            places = (
                f"~/.aws (profile {profile}), the environment (AWS_ACCESS_KEY_ID ...) or the instance's role"
            )
        rule = f"{self._host} refuses this account, also after its credentials were read anew"
        return rule, f"check the credentials in {places}, their expiry, and this machine's clock"

    @property
    def _host(self) -> str:
        return (
            endpoint_of(self.location) or {"s3": "AWS S3", "gs": "Google Cloud Storage"}[self.location.scheme]
        )


def endpoint_of(location: Location) -> str | None:
    """The endpoint of the URI, or for `s3` of the environment, which pyarrow does not read; or None.

    Raises:
        InputError: the environment's is malformed.
    """
    if location.endpoint is None and location.scheme == "s3":
        for variable in ENDPOINT_VARIABLES:
            if os.environ.get(variable):
                return parse_endpoint(os.environ[variable], variable)
    return location.endpoint


def missing_bucket(location: Location) -> InputError:
    """The error for a bucket that is not there."""
    name = f"{location.scheme}://{location.bucket}"
    return InputError(name, "not found", "the bucket must exist", "correct its name, or make it")


def _connect(location: Location, writing: bool) -> FileSystem:
    endpoint = endpoint_of(location)
    options: dict[str, Any] = {"anonymous": location.anonymous}
    if endpoint is not None:
        options["scheme"], _, options["endpoint_override"] = endpoint.partition("://")
    if location.scheme == "gs":
        return GcsFileSystem(**options, retry_time_limit=timedelta(seconds=READ_STALL_SECONDS))
    # Stores other than AWS's refuse, or store as content, the trailing checksums that are the default.
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    region = location.region
    if region is None and endpoint is not None and not os.environ.get("AWS_REGION"):
        region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    with _without_instance(location.anonymous or _has_keys(), region is not None or _has_region()):
        return _s3(location, writing, region, options)


def _s3(location: Location, writing: bool, region: str | None, options: dict[str, Any]) -> S3FileSystem:
    return S3FileSystem(
        **options,
        region=region,
        connect_timeout=min(CONNECT_SECONDS, location.deadline),
        request_timeout=min(
            WRITE_STALL_SECONDS if writing else READ_STALL_SECONDS, max(1.0, location.deadline)
        ),
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        # With a delayed open, a failed upload leaves an empty object under the name.
        allow_delayed_open=False,
    )


@contextmanager
def _without_instance(has_keys: bool, has_region: bool) -> Iterator[None]:
    """Keep AWS's library from asking the machine for what is known.

    It asks all the same, and where nobody answers and nobody refuses, as in many networks, it waits 4 s for a
    region and 10 s for keys, with every filesystem.
    """
    if not (has_keys and has_region) or _NO_INSTANCE in os.environ:
        yield
        return
    os.environ[_NO_INSTANCE] = "true"
    try:
        yield
    finally:
        os.environ.pop(_NO_INSTANCE, None)


def _has_keys() -> bool:
    """Whether keys lie in the environment or in AWS's file."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return True
    file = ConfigParser(interpolation=None, strict=False)
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    try:
        file.read(os.path.expanduser(path))
    except (ConfigParserError, UnicodeDecodeError):
        # AWS's library says what is wrong with it.
        return False
    return file.has_option(os.environ.get("AWS_PROFILE", "default"), "aws_access_key_id")


def _has_region() -> bool:
    return any(os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
