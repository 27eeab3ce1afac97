import pytest
import torch
from torch import nn

from ristune.errors import InputError
from ristune.training.config import TrainingConfig
from ristune.training.device import check_scaler, configure_process, resolve_device, resolve_precision
from tests.training.conftest import TRAINING

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before():
    yield
    configure_process(TrainingConfig(**TRAINING))


def test_auto_is_full_precision_on_the_cpu():
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="training.device: got 'cuda'; torch must see a GPU"):
        resolve_device("cuda")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_gradient_scaler_is_refused_but_for_fp16(precision):
    with pytest.raises(InputError, match=f"training.loss_scale: got 1024.0; .*fp16 only, .*{precision}"):
        check_scaler(1024.0, precision, nn.Linear(1, 1))
    check_scaler(1024.0, "fp16", nn.Linear(1, 1))
    check_scaler(None, precision, nn.Linear(1, 1))


def test_complex_parameters_are_refused_in_fp16():
    network = nn.Module()
    network.a = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    check_scaler(None, "bf16", network)
    with pytest.raises(InputError, match="training.precision: got 'fp16'; torch scales no complex"):
        check_scaler(None, "fp16", network)


def test_a_trainer_refuses_a_scaler_with_bf16(make_trainer):
    with pytest.raises(InputError, match="training.loss_scale"):
        make_trainer(precision="bf16", loss_scale=1024.0)


@pytest.mark.parametrize("on", [True, False])
def test_tf32_and_determinism_are_on_or_off_whatever_was_before(on):
    for value in (not on, on):
        configure_process(TrainingConfig(**{**TRAINING, "tf32": value, "deterministic": value}))
    assert torch.are_deterministic_algorithms_enabled() is on
    assert torch.get_float32_matmul_precision() == ("high" if on else "highest")
    assert torch.backends.cudnn.allow_tf32 is on
