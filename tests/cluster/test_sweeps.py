"""Sweeps in a bucket, on real hosts that are cut off, killed and brought up again while they run."""

import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.sweep.whole import faults
from ristune.storage.access import open_storage
from ristune.storage.location import within
from ristune.sweep.home import Home
from ristune.sweep.standing import Phase, Standing, standing
from ristune.sweep.transfer import download
from tests.cluster.running import Cluster

pytestmark = pytest.mark.cluster

TESTS = Path(__file__).parents[1]
# What hosts see: the code that `ray up` has shipped, and what is put into their shared folder.
PYTHON = "env PYTHONPATH=/home/ristune/ristune:/home/shared python -m"
CONFIGS = "--config-dir /home/shared/tests/configs"
TRIALS = 12
EPOCHS = 6
# Random values and no rung before the last epoch: what a trial gives hangs on its number alone.
FIXED = ("sweep.sampler=random", "sweep.seed=3", f"sweep.grace={EPOCHS}", "sweep.concurrency=2")


class Running:
    """A sweep whose driver runs on the cluster's head."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.result: dict[str, tuple[object, ...]] = {}
        self.uri = within(cluster.bucket, f"runs/{name}", "bucket")
        self.data = within(cluster.bucket, "toy", "bucket")

    def start(self) -> None:
        self._drive(
            *("--name", self.name, "--trials", str(TRIALS), "task=toy", "space=toy"),
            *(*CONFIGS.split(), f"training.epochs={EPOCHS}", *FIXED),
            *(f"output={within(self.cluster.bucket, 'runs', 'bucket')}", f"data.uri={self.data}"),
            *("training.device=cpu", "tracking.mode=disabled", "training.checkpoint_seconds=2"),
        )

    def resume(self) -> None:
        self._drive("--resume", self.uri)

    def _drive(self, *arguments: str) -> None:
        line = f"{PYTHON} ristune.sweep --address auto {shlex.join(arguments)}"
        there = "mkdir -p ~/work && cd ~/work"
        self.cluster.head_exec(f"{there} && (setsid nohup {line} >> out.txt 2>&1 < /dev/null &)")

    def standing(self) -> Standing:
        return standing(self.uri)

    def until(self, condition: Callable[[Standing], bool], seconds: float = 150.0) -> Standing:
        deadline = time.monotonic() + seconds
        seen: Standing | None = None
        while seen is None or not condition(seen):
            assert time.monotonic() < deadline, self.cluster.head_exec("tail -n 40 ~/work/out.txt")
            time.sleep(1)
            if seen is not None:
                seen.news()
            elif Home(self.uri).segments.there():
                seen = self.standing()
        return seen

    def ended(self) -> dict[str, tuple[object, ...]]:
        """What each trial came to, once the sweep has ended, whole."""
        found = self.until(lambda sweep: sweep.phase is Phase.FINISHED)
        # What is written beside the journal is the driver's last word.
        self.until(lambda _: "summary.json" in open_storage(self.uri).list(""))
        return {
            trial.id: (trial.state, trial.epoch, trial.objective, tuple(trial.values.items()))
            for trial in found.history.trials.values()
        }


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[None]:
    """A dataset in the bucket; the bucket's keys for who looks at it from here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, cluster.environment[name])
        sizes = ("simulator.train=2048", "simulator.val=64", "simulator.test=64")
        shutil.copytree(TESTS, Path(cluster.bed.folder) / "shared" / "tests", dirs_exist_ok=True)
        out = shlex.quote(within(cluster.bucket, "toy", "bucket"))
        command = f"ristune.simulate --out {out} task=toy {CONFIGS} {' '.join(sizes)}"
        cluster.head_exec(f"cd /tmp && {PYTHON} {command}", timeout=120)
        yield


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, store: None) -> Running:
    sweep = Running(cluster, "undisturbed")
    sweep.start()
    sweep.result = sweep.ended()
    return sweep


def whole(sweep: Running, folder: Path) -> list[str]:
    """What is wrong with a sweep, from its journal and its tables as they lie in the bucket."""
    there = open_storage(sweep.uri)
    (folder / "journal").mkdir(parents=True)
    (folder / "journal" / "events.jsonl").write_bytes(Home(sweep.uri).segments.read())
    for name in ("summary.json", "trials.parquet", "records.parquet", "best.yaml", "config.yaml"):
        (folder / name).write_bytes(there.read(name))
    download(there, "best", folder / "best")
    states = [f"state of {trial}" for trial in there.list("trials") if there.list(f"trials/{trial}/resume")]
    return [*faults(folder, TRIALS), *states]


def test_a_sweep_in_a_bucket_uses_every_host(cluster: Cluster, undisturbed: Running, tmp_path: Path) -> None:
    assert len(undisturbed.result) == TRIALS and whole(undisturbed, tmp_path / "copy") == []
    for host in cluster.workers:
        ran = cluster.execute(host, "ls /tmp/ristune-sweeps-*/*/trials").split()
        assert set(ran) & set(undisturbed.result), f"no trial ran on {host}"
    # The head has no core for trials.
    assert "trials" not in cluster.head_exec("ls -R /tmp/ristune-sweeps-* 2> /dev/null || true")


def test_a_sweep_whose_workers_are_cut_off_and_killed_ends_as_one_that_is_left_alone(
    cluster: Cluster, undisturbed: Running, tmp_path: Path
) -> None:
    first, second = cluster.workers
    sweep = Running(cluster, "workers")
    sweep.start()
    sweep.until(lambda seen: seen.history.told >= 1)
    cluster.cut(first)
    time.sleep(8)
    cluster.mend(first)
    before = sweep.standing().history.told
    sweep.until(lambda seen: seen.history.told > before)
    cluster.kill_host(second)
    cluster.revive(second)
    assert sweep.ended() == undisturbed.result
    assert whole(sweep, tmp_path / "copy") == []
    cluster.wait_for(*cluster.bed.hosts)


def test_a_sweep_whose_head_is_killed_goes_on_from_the_bucket(
    cluster: Cluster, undisturbed: Running, tmp_path: Path
) -> None:
    sweep = Running(cluster, "head")
    sweep.start()
    sweep.until(lambda seen: seen.history.told >= 2)
    cluster.kill_host("head")
    cluster.revive("head")
    cluster.up()
    # The machine that takes its place has nothing of it.
    cluster.head_exec("rm -r ~/work")
    sweep.resume()
    assert sweep.ended() == undisturbed.result
    assert whole(sweep, tmp_path / "copy") == []
    cluster.wait_for(*cluster.bed.hosts)
