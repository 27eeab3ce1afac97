"""YAML groups, command line and one trial's values to a plain, typed Config.

This module alone knows hydra. It refuses unknown paths and wrong types, and says what was meant.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import hydra.utils
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import ristune
from ristune.data.config import DataConfig
from ristune.errors import InputError, require
from ristune.overrides import check_value, edit_space, is_of_space, literal, put, spell
from ristune.sections import Section, read_section
from ristune.sweep_config import SEED_RULE, SEEDS, SweepConfig
from ristune.tracking import TrackingConfig
from ristune.training.config import OptimizerConfig, TrainingConfig


@dataclass(frozen=True)
class Config:
    """Everything one trial, or one sweep, is told.

    Attributes:
        task: constructor (`_target_`) and arguments of the task; `name` and `objective` are for ristune.
        simulator: the same for what draws the dataset; None where the task has none.
        importer: the same for what makes a dataset of a user's own files; None where the task has none.
        space: distributions by configuration path.
        source: the composed configuration before interpolation, plain values; crosses processes.
        plain: the same after interpolation.
        overrides: the overrides it was composed from.
        config_dirs: the folders of the user's own groups, absolute.
    """

    task: Mapping[str, Any]
    simulator: Mapping[str, Any] | None
    importer: Mapping[str, Any] | None
    data: DataConfig
    training: TrainingConfig
    optimizer: OptimizerConfig
    space: Mapping[str, Any]
    sweep: SweepConfig
    tracking: TrackingConfig
    seed: int
    output: str
    source: Mapping[str, Any]
    plain: Mapping[str, Any]
    overrides: tuple[str, ...]
    config_dirs: tuple[str, ...]

    def resolved(self) -> dict[str, Any]:
        """The configuration as plain values, interpolations resolved: what is stored and printed."""
        return deepcopy(dict(self.plain))

    def with_values(self, values: Mapping[str, Any]) -> "Config":
        """The configuration of one trial.

        Args:
            values: new values by configuration path.

        Raises:
            InputError: if a path is not in the configuration or a value has another type.
        """
        node = OmegaConf.create(dict(self.source))
        for path, value in values.items():
            check_value(self.source, path, value)
            OmegaConf.update(node, path, value)
        overrides = (*self.overrides, *(f"{path}={literal(value)}" for path, value in values.items()))
        return _typed(node, overrides, self.config_dirs, self)


def config_dir() -> Path:
    """The folder of the YAML groups, in a checkout and in an installed wheel."""
    package = Path(ristune.__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def compose(overrides: Sequence[str] = (), config_dirs: Sequence[str | Path] = ()) -> Config:
    """Compose the configuration.

    Args:
        overrides: `path=value` and `group=choice`; the last of two wins. `space={...}` is a space itself,
            `space.path={...}` an entry of the chosen one, `space.path=null` takes it out.
        config_dirs: folders with groups of the user's own, searched before ristune's.

    Raises:
        InputError: on an unknown group choice, an unknown path, or a value of another type.
    """
    for directory in config_dirs:
        if not Path(directory).is_dir():
            raise InputError("--config-dir", str(directory), "it must be a folder", "check the path")
    overrides = [spell(text) for text in overrides]
    parsed = [_parse(text) for text in overrides]
    directories = [str(Path(directory).resolve()) for directory in config_dirs]
    search = [f"file://{directory}" for directory in directories]
    path = [f"hydra.searchpath=[{','.join(search)}]"] if search else []
    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        # Group choices first: they give the paths that exist, and the types of their values.
        choices = [o for o in parsed if _is_choice(o)]
        base = _hydra([*path, *(o.input_line or "" for o in choices)])
        known = cast(dict[str, Any], OmegaConf.to_container(base, resolve=False))
        spelled: dict[str, str] = {}
        for number, (text, override) in enumerate(zip(overrides, parsed, strict=True)):
            name = override.key_or_group
            if _is_inline(override):
                continue
            if not _is_choice(override) and (
                check_value(known, name, override.value()) == {} or name in spelled
            ):
                # A mapping that is empty by default takes any names, which Hydra calls adding; the last one
                # wins, as with all values, where Hydra would merge them.
                spelled[name] = f"++{text}"
                put(known, name, override.value())
            else:
                spelled[str(number)] = text
        node = _hydra([*path, *spelled.values()])
    _edit_space(node, parsed, known)
    return _typed(node, tuple(overrides), tuple(directories))


def restore(source: Mapping[str, Any], overrides: Sequence[str], config_dirs: Sequence[str]) -> Config:
    """The configuration that a checkpoint was trained with, whatever the YAML files say today.

    Args:
        source: `Config.source`, as stored.
        overrides: what is to be another way now: `path=value`, no group choices.
        config_dirs: as stored.

    Raises:
        InputError: as `compose`.
    """
    node = OmegaConf.create(dict(source))
    overrides = [spell(text) for text in overrides]
    parsed = [_parse(text) for text in overrides]
    for override in parsed:
        if not _is_inline(override):
            check_value(source, override.key_or_group, override.value())
            OmegaConf.update(node, override.key_or_group, override.value())
    _edit_space(node, parsed, source)
    return _typed(node, tuple(overrides), tuple(config_dirs))


def read_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """The values that overrides set, by path; choices of groups are values too.

    Raises:
        InputError: if one does not parse.
    """
    parsed = (_parse(spell(text)) for text in texts)
    return {override.key_or_group: override.value() for override in parsed}


def build(spec: Mapping[str, Any]) -> Any:
    """Construct the object that a spec with `_target_` describes; `name` and `objective` are not passed.

    Raises:
        InputError: if the target cannot be found, or refuses its arguments.
    """
    arguments = {key: value for key, value in spec.items() if key not in ("name", "objective")}
    try:
        return hydra.utils.instantiate(arguments, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise cause from error
        # An exception of the class's own code is its author's to see, traceback and all.
        if cause is not None and not isinstance(cause, ImportError | AttributeError | TypeError):
            raise
        raise InputError(
            "_target_",
            str(spec.get("_target_")),
            f"it must be an importable class that takes its YAML's arguments "
            f"({' '.join(str(cause or error).split())})",
            "correct the name or the arguments in the task's or simulator's YAML",
        ) from error


def _parse(text: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise InputError(
            "override", text, "it must read path=value or group=choice", "see `--help` for examples"
        ) from error
    if override.is_add() or override.is_delete() or override.is_sweep_override():
        raise InputError(
            "override",
            text,
            "it must set one existing path to one value",
            "write path=value; a sweep is a space",
        )
    return override


def _is_choice(override: Override) -> bool:
    group = config_dir() / override.key_or_group
    return "." not in override.key_or_group and group.is_dir() and not _is_inline(override)


def _is_inline(override: Override) -> bool:
    """Whether it is of the space and no choice of a file: its paths hold dots, which Hydra would split."""
    return is_of_space(override.key_or_group, override.value())


def _edit_space(node: DictConfig, overrides: Sequence[Override], known: Mapping[str, Any]) -> None:
    """Replace or change the chosen space as the command line says; a replacement goes before all changes."""
    named = [(override.key_or_group, override.value()) for override in overrides]
    if not any(is_of_space(name, value) for name, value in named):
        return
    chosen = cast(dict[str, Any], OmegaConf.to_container(node, resolve=False))["space"]
    with open_dict(node):
        node["space"] = edit_space(chosen, named, known)


def _hydra(overrides: Sequence[str]) -> DictConfig:
    try:
        node: DictConfig = hydra_compose("config", overrides=list(overrides))
        return node
    except MissingConfigException as error:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        remedy = "give the folder of your own with --config-dir"
        if group == "space" and ":" in choice:
            remedy = "quote it, for a shell takes braces apart: 'space={...}'"
        rule = f"it must be one of {', '.join(error.options or [])}"
        raise InputError(group or "configuration", choice, rule, remedy) from error
    except (HydraException, YAMLError) as error:
        raise InputError(
            "configuration",
            " ".join(overrides),
            f"it must compose ({' '.join(str(error).split())})",
            "correct the choice or the YAML",
        ) from error


def _plain(node: DictConfig) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise InputError(
            "configuration",
            error.full_key,
            f"it must resolve ({error.msg})",
            "correct the YAML or set the value",
        ) from error


def _typed(
    node: DictConfig, overrides: tuple[str, ...], config_dirs: tuple[str, ...], base: Config | None = None
) -> Config:
    """Everything checked; a section that is the same in `base` is checked already, which takes a while."""
    source = cast(dict[str, Any], OmegaConf.to_container(node, resolve=False))
    plain = _plain(node)

    def section(kind: type[Section], name: str) -> Section:
        # Not by equality: 1 and 1.0 and True are equal.
        if base is not None and repr(base.plain[name]) == repr(plain[name]):
            return cast(Section, getattr(base, name))
        return read_section(kind, name, plain[name])

    require(0 <= plain["seed"] < SEEDS, "seed", plain["seed"], SEED_RULE)
    return Config(
        task=plain["task"],
        simulator=plain.get("simulator"),
        importer=plain.get("importer"),
        data=section(DataConfig, "data"),
        training=section(TrainingConfig, "training"),
        optimizer=section(OptimizerConfig, "optimizer"),
        space=plain["space"],
        sweep=section(SweepConfig, "sweep"),
        tracking=section(TrackingConfig, "tracking"),
        seed=plain["seed"],
        output=plain["output"],
        source=source,
        plain=plain,
        overrides=overrides,
        config_dirs=config_dirs,
    )
