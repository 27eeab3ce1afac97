import os
import pickle
import signal
import time

import pytest

from ristune.sweep import interrupt as module
from ristune.sweep.interrupt import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_interrupts(number: signal.Signals) -> None:
    with interrupts() as interrupt:
        assert not interrupt.stop_all()
        os.kill(os.getpid(), number)
        assert interrupt.stop_all()
        assert interrupt.reason == number.name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with interrupts() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
        assert interrupt.reason == "SIGINT"


def test_after_disarming_nothing_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with interrupts() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        interrupt.disarm()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)


def test_handlers_from_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in module.SIGNALS]
    with interrupts():
        assert [signal.getsignal(number) for number in module.SIGNALS] != before
    assert [signal.getsignal(number) for number in module.SIGNALS] == before


def test_it_stops_no_trial_on_its_own_and_can_be_pickled() -> None:
    with interrupts() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        interrupt.disarm()
        assert interrupt("a", {"done": True}) is False
        assert pickle.loads(pickle.dumps(interrupt)).stop_all()
