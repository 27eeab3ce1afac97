"""Where each value of a configuration came from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ristune.config import Config, config_dir

DEFAULT = "ristune's default"
# The file that chooses the groups.
HEAD = "config.yaml"


@dataclass(frozen=True)
class Origin:
    """A value and what set it.

    Attributes:
        path: of the configuration.
        value: resolved.
        source: a file, the command line or a trial.
    """

    path: str
    value: Any
    source: str


def origins(config: Config, trial: Sequence[str], trial_file: Path | None) -> list[Origin]:
    """Every value of a configuration with what set it.

    Args:
        config: as composed.
        trial: the overrides of `--from`, which come first among the configuration's.
        trial_file: where they were read.
    """
    setters = _setters(config, len(trial), trial_file)
    files = _files(config)
    written = dict(_flat(config.source))
    found = []
    for path, value in _flat(config.resolved()):
        parts = path.split(".")
        prefixes = [".".join(parts[: n + 1]) for n in range(len(parts))]
        source = next((setters[prefix] for prefix in reversed(prefixes) if prefix in setters), None)
        source = source or files.get(parts[0], f"{DEFAULT}, configs/{HEAD}")
        text = written.get(path)
        if isinstance(text, str) and text.startswith("${"):
            source += f", from {text}"
        found.append(Origin(path, value, source))
    return found


def render(found: Sequence[Origin]) -> list[str]:
    """A line for each value: path, value, source."""
    texts = [(each.path, _text(each.value), each.source) for each in found]
    first = max(len(path) for path, _, _ in texts)
    second = min(40, max(len(value) for _, value, _ in texts))
    return [f"{path:{first}}  {value:{second}}  {source}" for path, value, source in texts]


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        # A distribution of the space is one value, and its path holds dots of its own.
        if isinstance(value, Mapping) and value and not prefix.startswith("space."):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _setters(config: Config, trial: int, trial_file: Path | None) -> dict[str, str]:
    """What set a path by an override; the last one wins."""
    found = {}
    for index, text in enumerate(config.overrides):
        if not _is_choice(text):
            found[text.partition("=")[0]] = f"{trial_file}" if index < trial else "command line"
        elif text.startswith("space="):
            # A space of the command line, and the file that is chosen after it.
            found.pop("space", None)
    return found


def _is_choice(text: str) -> bool:
    path, _, value = text.partition("=")
    return "." not in path and (config_dir() / path).is_dir() and not value.startswith("{")


def _files(config: Config) -> dict[str, str]:
    """The file of each group's choice, where it is the user's own; ristune's by its name."""
    head = yaml.safe_load((config_dir() / HEAD).read_text())
    choices = {}
    for entry in head["defaults"]:
        if isinstance(entry, Mapping):
            ((group, choice),) = entry.items()
            choices[group.removeprefix("optional ")] = str(choice)
    for text in config.overrides:
        path, _, value = text.partition("=")
        if _is_choice(text):
            choices[path] = value
    files = {}
    for group, choice in choices.items():
        name = f"{group}/{choices['task'] if choice == '${task}' else choice}.yaml"
        own = [Path(folder) / name for folder in config.config_dirs if (Path(folder) / name).is_file()]
        files[group] = str(own[0]) if own else f"{DEFAULT}, configs/{name}"
    return files


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
