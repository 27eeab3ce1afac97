"""Whether Ray takes the file: its own validation, its errors as findings."""

import contextlib
import copy
import io
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ristune.cluster.finding import Finding, error

REMEDY = "correct it; docs.ray.io, 'Cluster YAML configuration', has every key"


def schema(document: Mapping[str, Any]) -> list[Finding]:
    """What Ray's own validation finds; it stops at the first.

    Args:
        document: the file, as YAML gives it.
    """
    # Ray takes seconds to import, and other checks do without.
    import click
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        with _quiet():
            validate_config(prepare_config(copy.deepcopy(dict(document))))
    except jsonschema.ValidationError as refused:
        return [_invalid(refused)]
    except click.ClickException as refused:
        return [_told(document, refused.message)]
    # A key that is missing or has a value of another kind, met by Ray before it looks at its schema.
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError, AssertionError) as refused:
        return [_told(document, f"{type(refused).__name__}: {refused}")]
    return []


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray says some of what it finds on the terminal as well."""
    logger = logging.getLogger("ray.autoscaler")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _invalid(refused: Any) -> Finding:
    """A finding of Ray's schema, by the path to what is wrong."""
    path, value = list(refused.absolute_path), refused.instance
    if refused.validator == "additionalProperties":
        more = [name for name in refused.instance if name not in refused.schema.get("properties", {})]
        path, value = [*path, more[0]], refused.instance[more[0]]
        return error(_place(path), value, "Ray knows no such key", REMEDY)
    if refused.validator == "required":
        lacks = [name for name in refused.validator_value if name not in refused.instance]
        return error(_place([*path, lacks[0]]), None, "Ray requires it", REMEDY)
    return error(_place(path), value, f"Ray: {' '.join(refused.message.split())}", REMEDY)


def _told(document: Mapping[str, Any], message: str) -> Finding:
    """A finding that Ray has in words: the first key of the file that they name."""
    named = [word for word in re.findall(r"\w+", message) if word in document or word == "head_node_type"]
    place = named[0] if named else "provider"
    rule = f"Ray: {' '.join(message.split()).rstrip('.')}"
    return error(place, document.get(place), rule, REMEDY)


def _place(path: list[Any]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the file"
