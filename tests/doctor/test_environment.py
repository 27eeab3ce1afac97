import pytest
import torch

from ristune.config import compose
from ristune.doctor import environment as of
from ristune.doctor.bench import Bench
from ristune.doctor.outcome import Verdict


@pytest.fixture
def examined(toy_dataset, tmp_path, monkeypatch):
    """The check's outcome under some values; no GPU unless the test says so."""
    monkeypatch.setattr(of, "GPU", tmp_path / "none")

    def examine(*overrides):
        config = compose(["task=toy", f"data.uri={toy_dataset}", *overrides], ["tests/configs"])
        return of.environment(Bench(config, tmp_path, print))

    return examine


def test_device_precision_and_versions_are_said(examined):
    found = examined("training.device=cpu")
    assert found.verdict is Verdict.PASS
    assert "CPU, " in found.why and "in fp32; ristune " in found.why and torch.__version__ in found.why


def test_half_precision_on_the_cpu_is_tried(examined):
    assert "in bf16" in examined("training.device=cpu", "training.precision=bf16").why


def test_a_precision_that_autocast_does_not_give_is_found(examined, monkeypatch):
    monkeypatch.setitem(of.AUTOCAST_DTYPE, "fp32", torch.float64)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: torch.enable_grad())
    found = examined("training.device=cpu")
    assert found.verdict is Verdict.FAIL and "the network ran in torch.float32" in found.why


def test_a_gpu_that_torch_does_not_see_is_found(examined, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(of, "GPU", tmp_path)
    found = examined()
    assert found.verdict is Verdict.FAIL and "torch" in found.why and "training.device=cpu" in found.remedy
    assert examined("training.device=cpu").verdict is Verdict.PASS


def test_a_gradient_that_is_not_finite_is_found(examined, monkeypatch):
    class Root(torch.nn.Module):
        def forward(self, x):
            return (0 * x).sqrt()

    monkeypatch.setattr(of.nn, "GELU", Root)
    found = examined("training.device=cpu")
    assert found.verdict is Verdict.FAIL and "a gradient of a tiny network is not finite" in found.why
