import gc
import threading
import time

import pytest

from ristune.data.threads import Daemons


def test_calls_run_in_the_order_they_come_and_give_what_they_return():
    begun = []
    with Daemons(1, "test") as threads:
        futures = [threads.submit(lambda n=n: begun.append(n) or n * n) for n in range(20)]
        assert [future.result() for future in futures] == [n * n for n in range(20)]
    assert begun == list(range(20))


def test_an_error_belongs_to_its_call_and_the_thread_lives_on():
    with Daemons(1, "test") as threads:
        failed, sound = threads.submit(int, "x"), threads.submit(int, "7")
        with pytest.raises(ValueError, match="'x'"):
            failed.result()
        assert sound.result() == 7


def test_as_many_calls_run_at_once_as_there_are_threads():
    meeting = threading.Barrier(3)
    with Daemons(3, "test") as threads:
        for future in [threads.submit(meeting.wait, 20) for _ in range(3)]:
            future.result()


def test_what_has_not_begun_is_left_out_when_asked_for_and_done_otherwise():
    for left_out in (True, False):
        gate, done = threading.Event(), []
        threads = Daemons(1, "test")
        threads.submit(gate.wait)
        later = threads.submit(done.append, 1)
        while threads._work.qsize() > 1:
            time.sleep(0.001)
        threads.shutdown(wait=False, cancel_futures=left_out)
        gate.set()
        threads.shutdown()
        assert later.cancelled() is left_out
        assert done == ([] if left_out else [1])


def test_threads_that_nobody_ends_end_with_it():
    threads = Daemons(3, "test-dropped")
    mine = threads._threads
    assert threads.submit(int, "7").result() == 7
    del threads
    gc.collect()
    for thread in mine:
        thread.join(10)
    assert not any(thread.is_alive() for thread in mine)


def test_none_of_its_threads_is_one_the_exit_waits_for_and_all_end():
    before = set(threading.enumerate())
    with Daemons(4, "test-end"):
        mine = set(threading.enumerate()) - before
        assert len(mine) == 4
        assert all(thread.daemon for thread in mine)
    assert not any(thread.is_alive() for thread in mine)
