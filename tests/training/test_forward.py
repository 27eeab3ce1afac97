import pytest
import torch
from torch import nn

from ristune.errors import InputError
from ristune.training.forward import forward, full_precision, total_loss
from tests.toy import ToyTask
from tests.training.conftest import samples

CPU = torch.device("cpu")


def test_outputs_and_labels_reach_the_loss_in_full_precision():
    class HalfTask(ToyTask):
        def prepare(self, batch):
            return {**batch, "half": batch["x"].half(), "wave": torch.complex(batch["x"], batch["x"])}

    output, batch = forward(HalfTask(width=4, scale=1.0), samples(8), "bf16", CPU)
    assert output.dtype == torch.float32
    assert {k: v.dtype for k, v in batch.items()} == {
        "x": torch.float32,
        "target": torch.float32,
        "half": torch.float32,
        "wave": torch.complex64,
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
        (torch.complex128, torch.complex64),
        (torch.int64, torch.int64),
        (torch.bool, torch.bool),
    ],
)
def test_every_floating_type_becomes_fp32_and_every_complex_one_complex64(given, wanted):
    assert full_precision(torch.zeros(2, dtype=given)).dtype == wanted


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_complex32_becomes_complex64():
    half = torch.zeros(2, dtype=torch.complex32)
    assert full_precision(half).dtype == torch.complex64


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", torch.float32)]
)
def test_the_network_runs_in_the_precision_that_is_asked_for_and_nothing_else_does(precision, dtype):
    seen = {}

    class Spy(nn.Linear):
        def forward(self, batch):
            result = super().forward(batch["x"])
            seen["network"] = result.dtype
            return {"out": result.squeeze(-1)}

    class SpyTask(ToyTask):
        def prepare(self, batch):
            seen["prepare"] = (batch["x"] @ batch["x"].T).dtype
            return batch

    task = SpyTask(width=4, scale=1.0)
    task.network = Spy(2, 1)
    output, _ = forward(task, samples(4), precision, CPU)
    assert seen == {"network": dtype, "prepare": torch.float32}
    assert output["out"].dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def test_a_network_that_returns_no_tensor_is_refused():
    task = ToyTask(width=4, scale=1.0)
    task.network.forward = lambda batch: [batch["x"]]
    with pytest.raises(InputError, match="task.network: got 'list'; it must return a tensor or a mapping"):
        forward(task, samples(4), "fp32", CPU)


def test_terms_are_summed_and_must_be_scalars():
    one = torch.tensor(1.0, requires_grad=True)
    assert total_loss({"a": one, "b": torch.tensor(2.5)}).item() == 3.5
    with pytest.raises(InputError, match=r"task.loss: 'a': got \(2,\); each term must be a tensor, a scalar"):
        total_loss({"a": torch.ones(2)})
    with pytest.raises(InputError, match="task.loss: 'a': got 'float'; each term must be a tensor"):
        total_loss({"a": 0.5})
    for wrong in ({}, torch.tensor(1.0)):
        with pytest.raises(InputError, match="task.loss: got .*at least one named term"):
            total_loss(wrong)


def test_a_loss_that_no_parameter_enters_is_refused():
    with pytest.raises(InputError, match="task.loss: got 'a'; it must depend on the network's parameters"):
        total_loss({"a": torch.tensor(1.0)})
    with torch.no_grad():
        assert total_loss({"a": torch.tensor(1.0)}).item() == 1.0
