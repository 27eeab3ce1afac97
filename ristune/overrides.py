"""Values by configuration path: which paths there are, of what kind, and how an override spells a value."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ristune.errors import InputError

# What may be another way when a training is resumed: where it runs and is shown, not what it computes.
RESUMABLE = ("data.uri=", "data.mode=", "data.prefetch=", "data.cache", "training.device=", "tracking.")
# A URI with settings, as it stands between a shell's quotes: Hydra's grammar has another use for ? = &.
_URI_WITH_SETTINGS = re.compile(r"[a-z][a-z0-9+.-]*://[^'\"\\?]*\?[^'\"\\]*", re.IGNORECASE)
# Text that needs no quotes: it cannot be read as a number, a truth value, null, a list or a mapping.
_BARE_TEXT = re.compile(r"(?!(?:null|true|false|nan|inf)$)(?:[A-Za-z_]|\.{0,2}/)[\w./-]*", re.IGNORECASE)


def check_value(known: Mapping[str, Any], path: str, value: Any) -> Any:
    """Refuse a path that is not in the configuration, and a value of another kind than the one there.

    Returns:
        The value there.

    Raises:
        InputError: naming the nearest known path, or the kind wanted.
    """
    paths = _paths(known)
    if path not in paths:
        close = difflib.get_close_matches(path, [p for p in paths if not p.startswith("space.")], n=1)
        remedy = f"did you mean {close[0]!r}?" if close else "see `--show-config` for every path"
        raise InputError("override", path, "it must be a path of the configuration", remedy)
    default = paths[path]
    wanted = _kind(default)
    if (
        wanted is not None
        and _kind(value) != wanted
        and not (wanted == "number" and _kind(value) == "integer")
    ):
        raise InputError(
            path, value, f"it must be of the kind {wanted}, as {default!r} is", "give such a value"
        )
    return default


def is_of_space(name: str, value: Any) -> bool:
    """Whether an override gives a space, or an entry of one, on the command line: not `space=NAME`.

    Args:
        name: its path or group.
        value: as parsed.
    """
    return name.startswith("space.") or (name == "space" and not isinstance(value, str))


def edit_space(
    chosen: Mapping[str, Any], overrides: Sequence[tuple[str, Any]], known: Mapping[str, Any]
) -> dict[str, Any]:
    """The space that the command line asks for; of `space=NAME` and `space={...}` the last one counts.

    Args:
        chosen: the space of the last `space=NAME`, or the default.
        overrides: all of the command line, names and values in order.
        known: the configuration.

    Raises:
        InputError: if an entry is of no known path, is none, or is to be taken out and not there.
    """
    bases = [value for name, value in overrides if name == "space"]
    replaced = bool(bases) and not isinstance(bases[-1], str)
    if replaced and not isinstance(bases[-1], Mapping):
        rule = "it must be the name of a space, or {PATH: {low: A, high: B}, PATH: {choices: [A, B]}, ...}"
        raise InputError("space", bases[-1], rule, "quote it in a shell: 'space={...}'")
    space = {str(path): entry for path, entry in (bases[-1] if replaced else chosen).items()}
    for name, entry in overrides:
        path = name.removeprefix("space.")
        if path == name:
            continue
        if entry is None:
            if path not in space:
                raise InputError(name, None, "it must be in the space to be taken out", _meant(path, space))
            del space[path]
        elif path == "constraints":
            space[path] = entry
        elif path not in space and path not in _paths(known):
            searchable = [each for each in _paths(known) if not each.startswith("space.")]
            raise InputError(
                name, entry, f"{path!r} must be a path of the configuration", _meant(path, searchable)
            )
        elif not isinstance(entry, Mapping):
            rule = "it must be {low: A, high: B}, {choices: [A, B]}, or null to take it out"
            raise InputError(name, entry, rule, "quote it in a shell: 'space.PATH={...}'")
        else:
            space[path] = entry
    return space


def _meant(path: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(path, known, n=1)
    return f"did you mean 'space.{close[0]}'?" if close else "see `--show-config` for every path"


def put(known: Mapping[str, Any], path: str, value: Any) -> None:
    """Set a value by its path, in place; the path is there."""
    *parents, name = path.split(".")
    node: Any = known
    for parent in parents:
        node = node[parent]
    node[name] = value


def _paths(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.items():
        found[f"{prefix}{key}"] = value
        if isinstance(value, Mapping):
            found.update(_paths(value, f"{prefix}{key}."))
    return found


def _kind(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value.startswith("${")):
        return None
    for kind, types in (("truth value", bool), ("integer", int), ("number", float), ("text", str)):
        if isinstance(value, types):
            return kind
    return "mapping" if isinstance(value, Mapping) else "list"


def spell(text: str) -> str:
    """An override as typed in a shell, a URI's settings quoted for Hydra's grammar."""
    path, equals, value = text.partition("=")
    return f"{path}={literal(value)}" if equals and _URI_WITH_SETTINGS.fullmatch(value) else text


def typed(path: str, value: str) -> str:
    """An override as a user types it in a shell, before the shell's own quotes; `spell` reads it."""
    text = f"{path}={value}"
    return text if spell(text) != text else f"{path}={literal(value)}"


def literal(value: Any) -> str:
    """A value as an override spells it; floats in full, so that it reproduces the trial."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not _BARE_TEXT.fullmatch(value):
        # Hydra's grammar: a quote is escaped by a backslash, and backslashes only before a quote.
        escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
        return f"'{escaped}'"
    return "null" if value is None else repr(value) if isinstance(value, float) else str(value)


def value_at(values: Mapping[str, Any], path: str) -> Any:
    """The value at a path that is there.

    Raises:
        KeyError: if it is not.
    """
    node: Any = values
    for key in path.split("."):
        node = node[key]
    return node


def check_resumable(overrides: Sequence[str], what: str, allowed: tuple[str, ...]) -> None:
    """Refuse overrides that would make another training, or another sweep, of one that is resumed.

    Args:
        overrides: of the command line that resumes.
        what: is resumed.
        allowed: how an override may begin.

    Raises:
        InputError: naming the first that is refused.
    """
    for override in overrides:
        if not override.startswith(allowed):
            rule = f"a resumed {what} may be given another {', '.join(allowed)} and no more"
            raise InputError("override", override, rule, "start anew, without --resume")
