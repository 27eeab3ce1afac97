import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ristune.sweep.lock import Held, locked

HOLD = "import sys, time; from pathlib import Path; from ristune.sweep.lock import locked\n"


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that has the lock."""
    code = f"{HOLD}with locked(Path({str(path)!r})): print('held', flush=True); time.sleep({seconds})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_lock_says_who_holds_it(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(Held, match=f"^process {os.getpid()} on "):
        with locked(tmp_path / "lock"):
            pass
    with locked(tmp_path / "lock"):
        pass


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    other = hold(tmp_path / "lock", 60)
    with pytest.raises(Held, match=f"^process {other.pid} on "):
        with locked(tmp_path / "lock"):
            pass
    other.kill()
    other.communicate()
    with locked(tmp_path / "lock"):
        pass


def test_a_lock_may_be_waited_for(tmp_path: Path) -> None:
    other = hold(tmp_path / "lock", 0.5)
    started = time.monotonic()
    with locked(tmp_path / "lock", patience=60):
        assert time.monotonic() - started > 0.1
    other.communicate()
