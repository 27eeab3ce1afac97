"""The one error that means "the user can mend this": bad input, found at the border."""

from collections.abc import Sequence


class InputError(ValueError):
    """Input that ristune refuses, with all a user needs to mend it.

    Commands print the message and exit with status 2; anything else is a failure of the run.

    Args:
        name: what is wrong: a config path, an option, a file.
        value: what was given.
        rule: what is required of it.
        remedy: what to do about it.
    """

    def __init__(self, name: str, value: object, rule: str, remedy: str) -> None:
        super().__init__(f"{name}: got {value!r}; {rule}; {remedy}")
        self.name = name
        self.value = value
        self.rule = rule
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str]]:
        """Pickle by fields, so that the error crosses a process boundary whole."""
        return (InputError, (self.name, self.value, self.rule, self.remedy))


def some(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def require(ok: bool, name: str, value: object, rule: str, remedy: str = "") -> None:
    """Refuse a value of the configuration, or an argument.

    Args:
        ok: whether the value is right.
        name: its configuration path, or the argument's name.
        value: the value.
        rule: what follows "it must be".
        remedy: what to do about it; empty for a value of the configuration.

    Raises:
        InputError: if `ok` is false.
    """
    if not ok:
        how = remedy or f"set {name} on the command line or in its YAML"
        raise InputError(name, value, f"it must be {rule}", how)
