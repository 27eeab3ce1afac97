"""The typed sections of a configuration: no unknown name, none missing, and no value of another type."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ristune.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")


def read_section(section: type[Section], name: str, values: Mapping[str, Any]) -> Section:
    """A section of plain values, checked.

    Args:
        section: its class.
        name: of its group.
        values: of all its fields, interpolations resolved.

    Raises:
        InputError: naming the first that is unknown, missing, of another type or out of its range.
    """
    known = {field.name for field in fields(section)}
    for key in [*sorted(set(values) - known), *sorted(known - set(values))]:
        rule = "it must be one of " + ", ".join(sorted(known))
        raise InputError(f"{name}.{key}", values.get(key), rule, f"correct the YAML of the group {name!r}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(section), dict(values))
    except OmegaConfBaseException as error:
        raise InputError(
            f"{name}.{error.full_key}",
            values.get(error.full_key or ""),
            error.msg or "",
            "give a value of that type",
        ) from error
    return section(**cast(dict[str, Any], OmegaConf.to_container(merged)))
