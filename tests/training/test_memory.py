import gc
import resource
import subprocess
import sys
from pathlib import Path

import torch

from ristune.training.memory import out_of_memory
from ristune.training.record import Status
from tests.toy import ToyTask

MIB = 1 << 20


class Hungry(ToyTask):
    """From one call of its loss on it holds half a gigabyte and then asks for more than there is."""

    def __init__(self, at):
        super().__init__(width=8, scale=1.0)
        self.at, self.calls = at, 0

    def loss(self, output, batch):
        self.calls += 1
        squared = super().loss(output, batch)["squared"]
        if self.calls > self.at:
            held = (squared + torch.ones(128 * MIB)).sqrt()
            squared = squared + (held * torch.ones(1 << 46)).sum()
        return {"squared": squared}


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_trial_that_runs_out_of_memory_says_so_and_the_next_one_trains(make_trainer):
    list(make_trainer().fit())
    before = resident()
    trainer = make_trainer(Hungry(at=0))
    (record,) = trainer.fit()
    assert record.status is Status.OOM and record.objective == 1e6 and record.best_epoch == 0
    assert "can't allocate memory" in record.reason
    assert not trainer.optimizer.state
    # The trainer and its record are still there: what the failed pass held is not.
    assert resident() - before < 100 * MIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before > 400 * MIB
    assert [r.status for r in make_trainer().fit()][-1] is Status.COMPLETE


def test_a_trial_that_runs_out_of_memory_later_keeps_its_best(make_trainer):
    records = list(make_trainer(Hungry(at=7)).fit())
    assert [r.status for r in records] == [Status.RUNNING, Status.OOM]
    assert records[1].objective == records[0].objective < 1e6 and records[1].best_epoch == 1
    assert records[1].windows == records[1].steps == 7


def test_another_runtime_error_is_not_taken_for_it(make_trainer):
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    for words in ("CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"):
        assert out_of_memory(RuntimeError(words))


def test_memory_that_ends_in_the_first_look_at_the_objective_ends_a_trial_so(make_trainer):
    class Greedy(ToyTask):
        def metrics(self, output, batch):
            return {"mse": torch.ones(1 << 46).sum() * output}

    (record,) = make_trainer(Greedy(width=8, scale=1.0)).fit()
    assert record.status is Status.OOM and record.objective == 1e6 and record.windows == 0


def test_a_process_at_its_limit_reports_and_goes_on():
    """A limit of the address space: allocations fail as they do on a full node."""
    code = """
import resource, torch
from ristune.training.record import Status
from tests.training.conftest import *
from tests.training.test_memory import Hungry
torch.set_num_threads(1)
make = make_trainer._get_wrapped_function()()
list(make().fit())
used = int(open('/proc/self/statm').read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20), used + (700 << 20)))
class Greedy(ToyTask):
    def loss(self, output, batch):
        kept = [torch.ones(32 << 20) + output.sum() for _ in range(64)]
        return {"squared": sum(k.mean() for k in kept)}
for _ in range(3):
    (record,) = make(Greedy(width=8, scale=1.0)).fit()
    assert record.status is Status.OOM, record
    torch.ones(100 << 20)
assert list(make().fit())[-1].status is Status.COMPLETE
print('went on')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "went on\n", done.stderr
