import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

# A group of marked tests that did not run fails the run.
pytest_plugins = ["tests.groups"]

TOY = ["task=toy", "space=toy", "--config-dir", "tests/configs", "tracking.mode=disabled"]


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell's background job ignores Ctrl-C, and its children with it; tests send it to theirs."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler if before is signal.SIG_IGN else before)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _one_core_a_process() -> None:
    """Tests share the machine's cores among processes; threads on top of these would only wait."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Decoded datasets of tests stay out of the user's cache; child processes inherit the place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small dataset of the toy task, written once."""
    from ristune import simulate

    uri = str(tmp_path_factory.mktemp("toy") / "dataset")
    assert simulate.main([*TOY, "--out", uri, "--train", "128", "--val", "64", "--test", "64"]) == 0
    return uri


@pytest.fixture(scope="session")
def digits_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """scikit-learn's handwritten digits, written once."""
    from tests.digits import write_digits

    folder = tmp_path_factory.mktemp("digits")
    write_digits(str(folder / "dataset"), folder / "parquet")
    return str(folder / "dataset")


@pytest.fixture
def toy(toy_dataset: str, tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of a command on the toy task."""
    return lambda *more: [*TOY, f"data.uri={toy_dataset}", f"output={tmp_path}", *more]
