"""URIs of object stores: what `s3://` and `gs://` may say, and what of it may be shown."""

import math
import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ristune.errors import InputError
from ristune.storage.retry import DEADLINE_SECONDS

# Settings that each kind of store takes after `?`.
SETTINGS = {
    "s3": ("endpoint", "region", "anonymous", "deadline"),
    "gs": ("endpoint", "anonymous", "deadline"),
}


@dataclass(frozen=True)
class Location:
    """A place in an object store.

    Attributes:
        scheme: `s3` or `gs`.
        bucket: its name.
        prefix: what all keys of the place begin with, without slashes around it; may be empty.
        endpoint: `http://host:port` of a store other than the provider's; None for the provider's.
        region: of the bucket; None for the one that is configured.
        anonymous: whether requests go unsigned.
        deadline: how long a call may keep failing, seconds.
    """

    scheme: str
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    deadline: float = DEADLINE_SECONDS

    @property
    def uri(self) -> str:
        """The URI, which `parse_location` takes; it never holds a secret."""
        settings = {
            "endpoint": self.endpoint,
            "region": self.region,
            "anonymous": "true" if self.anonymous else None,
            "deadline": None if self.deadline == DEADLINE_SECONDS else f"{self.deadline:g}",
        }
        said = [f"{key}={quote(value, safe=':/')}" for key, value in settings.items() if value is not None]
        return self.name("") + ("?" + "&".join(said) if said else "")

    def key(self, path: str) -> str:
        """Bucket and key of a file, as pyarrow takes them."""
        return "/".join(part for part in (self.bucket, self.prefix, path) if part)

    def name(self, path: str) -> str:
        """A file as errors name it."""
        return f"{self.scheme}://{self.key(path)}"


def within(uri: str, path: str, name: str) -> str:
    """The URI of a place below another; what comes after `?` stays.

    Args:
        uri: as `parse_location` takes it.
        path: below it, without slashes around it.
        name: where the URI came from, as it is to be named in errors.

    Raises:
        InputError: as `parse_location`.
    """
    place = parse_location(uri, name)
    return replace(place, prefix="/".join(part for part in (place.prefix, path) if part)).uri


def redact(uri: str) -> str:
    """A URI as it may be shown: no user and password, no value of a setting that is not known."""
    place, mark, query = re.sub(r"//[^?#]*@", "//***@", uri).partition("?")
    known = {key for keys in SETTINGS.values() for key in keys}
    shown = []
    for setting in query.split("&"):
        key, _, value = setting.partition("=")
        plain = not value or (key in known and "@" not in unquote(value))
        shown.append(setting if plain else f"{key}=***")
    return place + mark + "&".join(shown)


def parse_location(uri: str, name: str) -> Location:
    """The place that an `s3://` or `gs://` URI means.

    Args:
        uri: `s3://bucket/prefix?endpoint=...&region=...&anonymous=true&deadline=60`, all after `?` optional.
        name: where the URI came from, as it is to be named in errors.

    Raises:
        InputError: it is not such a URI, or holds a user and password.
    """
    place, _, query = uri.partition("?")
    scheme, _, rest = place.partition("://")
    bucket, _, prefix = rest.partition("/")
    if "@" in bucket:
        rule = "a URI holds no credentials"
        remedy = "give them by the environment or the provider's own files, and remove them from the URI"
        raise InputError(name, redact(uri), rule, remedy)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        rule = "a bucket of letters, digits, dots, hyphens and underscores comes after the scheme"
        raise InputError(name, redact(uri), rule, f"write {scheme}://bucket/prefix")
    prefix = prefix.rstrip("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        rule = "the prefix has no empty part and neither . nor .."
        raise InputError(name, redact(uri), rule, f"write {scheme}://bucket/prefix")
    settings = _settings(uri, query, scheme, name)
    return Location(
        scheme,
        bucket,
        prefix,
        endpoint=parse_endpoint(settings["endpoint"], f"{name}: endpoint")
        if "endpoint" in settings
        else None,
        region=settings.get("region"),
        anonymous=_truth(settings.get("anonymous", "false"), name),
        deadline=_seconds(settings["deadline"], name) if "deadline" in settings else DEADLINE_SECONDS,
    )


def _settings(uri: str, query: str, scheme: str, name: str) -> dict[str, str]:
    known = SETTINGS[scheme]
    pairs = parse_qsl(query, keep_blank_values=True)
    for key, value in pairs:
        if key not in known or not value or sum(key == other for other, _ in pairs) > 1:
            rule = f"after ? come {', '.join(known)}, each once and as key=value, joined by &"
            remedy = f"correct {key!r}; credentials come from the environment or the provider's own files"
            raise InputError(name, redact(uri), rule, remedy)
    return dict(pairs)


def parse_endpoint(text: str, name: str) -> str:
    """An endpoint without a slash at its end.

    Args:
        text: `http://` or `https://`, a host and perhaps a port.
        name: where it came from.

    Raises:
        InputError: it is not that, or holds credentials.
    """
    parts = urlsplit(text)
    host = re.fullmatch(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\])(?::(\d+))?", parts.netloc)
    if parts.scheme not in ("http", "https") or host is None or int(host[1] or 0) > 65535:
        rule = "an endpoint is http:// or https:// with a host and a port"
        raise InputError(name, redact(text), rule, "write it as http://127.0.0.1:7480")
    if parts.path.strip("/") or parts.query or parts.fragment:
        rule = "an endpoint has nothing after its port"
        raise InputError(name, redact(text), rule, "put bucket and prefix before the ?")
    return f"{parts.scheme}://{parts.netloc}"


def _truth(text: str, name: str) -> bool:
    if text not in ("true", "false"):
        raise InputError(f"{name}: anonymous", text, "it is true or false", "write anonymous=true")
    return text == "true"


def _seconds(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        rule = "a deadline is a number of seconds above 0"
        raise InputError(f"{name}: deadline", text, rule, f"write deadline={DEADLINE_SECONDS:g}")
    return value
