"""What an error of pyarrow's object stores means, in words that hold no secret.

A store's own text is never passed on: it may repeat a header or a key. Codes and statuses are.
"""

import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What to do about a failure."""

    TRANSIENT = "try again"
    MISSING = "there is no such object or bucket"
    REFUSED = "the store does not let this account in, or nobody unsigned"
    ELSEWHERE = "the bucket is in another region"
    FINAL = "the store will not do it"


@dataclass(frozen=True)
class Failure:
    """A failed call.

    Attributes:
        kind: what to do about it.
        text: code, HTTP status and operation, as far as they are known.
        opaque: whether an error answer was lost, so that its status is to be asked for another way.
    """

    kind: Kind
    text: str
    opaque: bool = False


_KINDS = {
    Kind.MISSING: "NO_SUCH_KEY NO_SUCH_BUCKET RESOURCE_NOT_FOUND NOT_FOUND 404",
    Kind.REFUSED: (
        "ACCESS_DENIED INVALID_ACCESS_KEY_ID SIGNATURE_DOES_NOT_MATCH REQUEST_TIME_TOO_SKEWED "
        "REQUEST_EXPIRED MISSING_AUTHENTICATION_TOKEN INVALID_CLIENT_TOKEN_ID UNRECOGNIZED_CLIENT "
        "EXPIRED_TOKEN INVALID_TOKEN INVALID_SIGNATURE ExpiredToken InvalidToken TokenRefreshRequired "
        "PERMISSION_DENIED UNAUTHENTICATED "
        # HEAD has no body: an expired token is a plain 400 there.
        "400 401 403"
    ),
    Kind.ELSEWHERE: "PERMANENT_REDIRECT PermanentRedirect AuthorizationHeaderMalformed 301 307",
    Kind.TRANSIENT: "408 425 429",
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes.split()}


def classify(error: OSError) -> Failure:
    """What an error of a pyarrow filesystem means; one that is not known is transient."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return Failure(Kind.MISSING, "not found")
    google = re.search(r"google::cloud::Status\((\w+):", text)
    if google:
        if "OAuth2 access token" in text:
            return Failure(Kind.REFUSED, "no access token could be had")
        curl = _curl(text)
        return Failure(_KIND_OF.get(google[1], Kind.TRANSIENT), google[1] + (f", {curl}" if curl else ""))
    codes = re.findall(r"AWS Error (\w+)|HTTP status (\d+)|ExceptionName: (\w+)", text)
    said = [code for match in codes for code in match if code and code != "UNKNOWN"]
    operation = re.search(r"during (\w+) operation", text)
    shown = [code if not code.isdigit() else f"HTTP status {code}" for code in said]
    shown += [f"during {operation[1]}"] if operation else []
    shown += [_curl(text)] if _curl(text) else []
    kinds = [_KIND_OF[code] for code in said if code in _KIND_OF]
    if not kinds and any(code.isdigit() and code.startswith("4") for code in said):
        kinds = [Kind.FINAL]
    return Failure(
        # The last code is the most particular: a name stands after the status.
        kinds[-1] if kinds else Kind.TRANSIENT,
        " ".join(shown) or "an answer that is not understood",
        opaque="response stream" in text,
    )


def _curl(text: str) -> str:
    """The network's own words: they name hosts and seconds, nothing that was sent."""
    found = re.search(r"curlCode: \d+, ([\w ]+)|CURL error \[\d+\]=([\w ]+)", text)
    return f"({found[1] or found[2]})" if found else ""
