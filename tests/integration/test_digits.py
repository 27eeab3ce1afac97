"""Real data through the public commands: handwritten digits, a classifier with BatchNorm and dropout."""

import json
from pathlib import Path

import numpy as np
import pytest

from ristune import evaluate, train
from ristune.data.dataset import open_dataset
from ristune.data.manifest import SPLITS
from ristune.dataset import verify
from ristune.sweep.__main__ import main as sweep
from tests.doctor.report import doctor

DIGITS = [
    *("task=digits", "space=digits", "--config-dir", "tests/configs", "tracking.mode=disabled"),
    *("training.device=cpu", "training.threads=1"),
]


def records_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(digits_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of a second, by the task's own values."""
    out = tmp_path_factory.mktemp("digits") / "run"
    asked = [f"data.uri={digits_dataset}", "training.epochs=6", "--out", str(out)]
    assert train.main([*DIGITS, *asked]) == 0
    return out


def test_every_image_is_in_one_split_once_with_its_own_label(digits_dataset: str) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    dataset = open_dataset(digits_dataset)
    assert [(c.name, c.dtype, c.shape, c.role) for c in dataset.manifest.columns] == [
        ("image", "<f4", (1, 8, 8), "input"),
        ("label", "<i8", (), "label"),
        ("sample_id", "<i8", (), "id"),
    ]
    splits = {name: dataset.split(name) for name in SPLITS}
    ids = np.concatenate([split["sample_id"].numpy() for split in splits.values()])
    assert sorted(ids) == list(range(1797))
    for split in splits.values():
        chosen = split["sample_id"].numpy()
        assert np.array_equal(split["image"].numpy()[:, 0] * 16, digits.images[chosen])
        assert np.array_equal(split["label"].numpy(), digits.target[chosen])


def test_the_dataset_is_sound(digits_dataset: str) -> None:
    assert verify.main([digits_dataset]) == 0


def test_a_few_epochs_tell_digits_apart(run: Path) -> None:
    records = records_of(run)
    assert records[-1]["val/error"] < 0.06
    assert records[-1]["val/nll"] < 0.5 * records[0]["val/nll"]


def test_the_checkpoint_is_measured_on_images_never_seen(run: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables.json"
    assert evaluate.main(["--checkpoint", str(run / "best"), "--out", str(tables)]) == 0
    ((row,),) = json.loads(tables.read_text()).values()
    assert row["error"] < 0.07


def test_the_checkpoint_keeps_what_batchnorm_has_seen(run: Path, tmp_path: Path) -> None:
    """Measured on validation again, it gives what the trainer found there: running means are restored."""
    tables = tmp_path / "tables.json"
    command = ["--checkpoint", str(run / "best"), "--split", "val", "--out", str(tables)]
    assert evaluate.main(command) == 0
    ((row,),) = json.loads(tables.read_text()).values()
    best = min(records_of(run), key=lambda record: record["val/nll"])
    assert row["error"] == pytest.approx(best["val/error"], abs=1e-6)
    assert row["nll"] == pytest.approx(best["val/nll"], rel=1e-5)


def first_loss(dataset: str, out: Path, *more: str) -> float:
    asked = [f"data.uri={dataset}", "training.epochs=1", "--out", str(out)]
    assert train.main([*DIGITS, *asked, *more]) == 0
    return records_of(out)[0]["train/cross_entropy"]


@pytest.fixture(scope="module")
def usual_loss(digits_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> float:
    return first_loss(digits_dataset, tmp_path_factory.mktemp("usual") / "run")


@pytest.mark.parametrize("option", ["task.batch_norm=false", "task.dropout=0.9", "task.label_smoothing=0.5"])
def test_every_option_of_the_network_and_the_loss_is_of_effect(
    usual_loss: float, digits_dataset: str, tmp_path: Path, option: str
) -> None:
    assert first_loss(digits_dataset, tmp_path / "run", option) > 1.05 * usual_loss


@pytest.mark.ray
def test_a_sweep_of_digits_completes(digits_dataset: str, tmp_path: Path) -> None:
    asked = [f"data.uri={digits_dataset}", f"output={tmp_path}", "training.epochs=3", "sweep.concurrency=1"]
    assert sweep([*DIGITS, *asked, "--name", "digits", "--trials", "3"]) == 0
    summary = json.loads((tmp_path / "digits" / "summary.json").read_text())
    trials = summary["trials"]
    assert trials["total"] == 3 and trials["complete"] >= 1
    assert trials["complete"] + trials["stopped"] == 3, trials
    assert evaluate.main(["--checkpoint", str(tmp_path / "digits" / "best")]) == 0


def test_the_doctor_finds_no_fault(digits_dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = doctor(capsys, [*DIGITS, f"data.uri={digits_dataset}"])
    verdicts = {name: row.verdict for name, row in rows.items() if row.verdict != "pass"}
    # No output is exactly right for a smoothed cross-entropy: the task offers none.
    assert verdicts == {"truth": "skip"}, rows
