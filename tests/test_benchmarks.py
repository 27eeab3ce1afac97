"""Benchmarks are run by hand; that they still fit the code is seen here."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Those of other libraries run in environments of their own.
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if "peers" not in path.parts)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_finds_all_that_it_imports(script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    assert runpy.run_path(str(script), run_name="imported")["__doc__"]
