"""A group of tests that was asked for by its marker must have run: none passed, or any skipped, is a failure.

`pytest -m "ray or s3"` on a machine without the S3 server would else be green.
"""

import re
from collections import Counter

import pytest

# Tests that need more than Python, by their marker.
GROUPS = ("ray", "s3", "cluster", "wheel", "browser")
# Of a test's reports, which may come from another process: the groups that it is of.
PROPERTY = "group"


def asked_for(expression: str) -> list[str]:
    """The groups that a marker expression names and does not exclude."""
    named = re.sub(r"\bnot\s+\w+", "", expression)
    return [group for group in GROUPS if re.search(rf"\b{group}\b", named)]


class Groups:
    """Counts what became of the tests of each group that was asked for.

    Args:
        names: the groups.
    """

    def __init__(self, names: list[str]) -> None:
        self._passed: Counter[str] = Counter(dict.fromkeys(names, 0))
        self._skipped: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name in {name for key, name in report.user_properties if key == PROPERTY} & set(self._passed):
            self._skipped[name] += report.skipped
            self._passed[name] += report.when == "call" and report.passed

    def faults(self) -> list[str]:
        """What is wrong with the run, a line each."""
        none = [f"no test marked {name} has passed" for name, passed in self._passed.items() if not passed]
        skipped = [
            f"{count} tests marked {name} were skipped" for name, count in self._skipped.items() if count
        ]
        return none + skipped

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        # What was interrupted, or asked for something else, has its own status.
        if self.faults() and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.faults():
            terminalreporter.write_line(f"FAILED {line}", red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Note of each test its groups, and in which process it runs where there are several.

    Those that share a server or a cluster run in one process, else those of a file.
    """
    for item in items:
        marks = {mark.name for mark in item.iter_markers()} & set(GROUPS)
        item.user_properties += [(PROPERTY, name) for name in sorted(marks)]
        shared = next((name for name in ("cluster", "s3") if name in marks), str(item.path))
        item.add_marker(pytest.mark.xdist_group(shared))


def pytest_configure(config: pytest.Config) -> None:
    """Take part where groups are asked for; a single test of one may be run by its name (`-k`, a path)."""
    whole = not config.option.keyword and not any("::" in argument for argument in config.args)
    names = asked_for(config.option.markexpr)
    if names and whole and not config.option.collectonly and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Groups(names), "groups")
