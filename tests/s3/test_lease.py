"""Leases on a server of objects, with processes that live and die."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ristune.storage.access import open_storage
from ristune.sweep.lease import leased
from ristune.sweep.lock import Held, Lost, hold

pytestmark = pytest.mark.s3

ROOT = Path(__file__).parents[2]
TERM = 18.0
HOLD = """\
import sys, time
from ristune.sweep.lease import leased
holding = leased(sys.argv[1], term=18.0)
lease = holding.__enter__()
lease.check()
print("held", flush=True)
while sys.stdin.readline():
    lease.check()
    print("acted", flush=True)
"""


@pytest.fixture
def uri(server, bucket):
    return server.uri(bucket, "runs/wide/journal", deadline=20)


def start(uri):
    """A process that holds it, acts when told to, and leaves without letting go."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, uri],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def act(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_the_second_driver_is_refused_while_the_first_renews_and_has_it_after(uri):
    storage = open_storage(uri)
    with leased(uri, term=TERM) as lease:
        for _ in range(2):
            with pytest.raises(Held, match=f"^process {os.getpid()} on .*, since "):
                with leased(uri, term=TERM):
                    pass
            lease.check()
        # It was renewed for longer than the time for which it could have been held without.
        time.sleep(TERM / 2)
        lease.check()
        # A new object is put before the one before it is deleted.
        assert len({key.partition(".")[0] for key in storage.list("lease")}) == 1
    with pytest.raises(Lost):
        lease.check()
    assert storage.list("lease") == ()


def test_a_holder_that_was_killed_is_waited_for_and_one_that_ends_lets_go(uri):
    process = start(uri)
    assert process.stdout.readline() == "held\n"
    assert act(process) == "acted\n"
    process.kill()
    process.communicate()
    with leased(uri, term=TERM) as lease:
        lease.check()
    # A process that ends without leaving the block ends at once, in order, and leaves nothing.
    process = start(uri)
    assert process.stdout.readline() == "held\n"
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert open_storage(uri).list("lease") == ()


def test_of_many_that_begin_at_once_one_has_it(uri):
    processes = [start(uri) for _ in range(4)]
    first = [process.stdout.readline() for process in processes]
    assert sorted(first) == ["", "", "", "held\n"]
    holder = processes[first.index("held\n")]
    assert act(holder) == "acted\n"
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process is holder or f"Held: process {holder.pid} on " in errors


def test_a_place_is_held_by_what_its_scheme_has(uri, tmp_path):
    with hold(uri), hold(tmp_path):
        assert open_storage(uri).list("lease")
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
