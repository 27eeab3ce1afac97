import pytest
import torch

from ristune.nearfield.estimators import Estimators
from ristune.nearfield.evaluation import Search
from ristune.training.forward import forward
from tests.nearfield.conftest import VIEW, Drawn, make_task, scene_sampler, simulator


def tables_of(drawn, scenes=20):
    task = make_task()
    task.attach(drawn)

    def predict(batch):
        with torch.no_grad():
            return forward(task, batch, "fp32", torch.device("cpu"))

    halves = [{k: v[part] for k, v in drawn.batch.items()} for part in (slice(0, 40), slice(40, 64))]
    return task.evaluate(halves, predict, scenes), task, predict


def test_floor_constant_sample_and_oracle_stand_beside_the_network(drawn):
    tables, task, predict = tables_of(drawn)
    by_k, by_snr, located, errors = tables.values()
    assert [row["covariance"] for row in by_k] == [
        "floor: R_pred = I",
        "best constant",
        "R_samp (ridge)",
        "network R_pred",
        "network R_blend",
    ]
    assert [row["estimator"] for row in located] == [
        "MUSIC: floor, R_pred = I",
        "MUSIC: R_samp (ridge)",
        "MUSIC: network R_pred",
        "MUSIC: network R_blend",
        "MUSIC: ORACLE R_true",
        "hybrid: network's peaks",
        "control: untrained network",
        "control: matched filter",
        "control: minimum variance",
        "maximum likelihood",
    ]
    assert all(row["ms"] > 0 for row in located)
    assert [row["estimator"] for row in errors] == [row["estimator"] for row in located]
    assert "told the true K, 20 scenes" in list(tables)[2]
    output, prepared = predict(drawn.batch)
    metrics = task.metrics(output, prepared)
    means = {row["covariance"]: row["all"] for row in by_k}
    assert means["network R_pred"] == pytest.approx(metrics["nmse_pred"].mean().item(), rel=1e-5)
    loud = drawn.batch["snr_db"] >= 15
    assert by_snr[3]["15 dB.."] == pytest.approx(metrics["nmse_pred"][loud].mean().item(), rel=1e-5)
    one = drawn.batch["num_sources"] == 1
    assert by_k[3]["K = 1"] == pytest.approx(metrics["nmse_pred"][one].mean().item(), rel=1e-5)


def test_a_dead_network_localises_as_the_sample_covariance_does(drawn):
    """Adding the identity moves no eigenvector: this floor must stand beside every result."""
    tables, _, _ = tables_of(drawn)
    floor, sample = list(tables.values())[2][:2]
    same = {"estimator": "", "ms": 0.0}
    assert {**floor, **same} == pytest.approx({**sample, **same}, abs=0.02)


def test_coherent_sources_are_said_to_be_beyond_music():
    tables, _, _ = tables_of(Drawn(simulator(scene_sampler(source_model="static"))))
    assert "coherent sources: R has rank 1" in list(tables)[2]


def test_nothing_but_the_oracle_is_told_the_truth(drawn):
    """An earlier ceiling fell back to the ground truth where its search failed."""
    _, task, predict = tables_of(drawn)
    output, prepared = predict({name: column[:12] for name, column in drawn.batch.items()})
    elsewhere = {**prepared, "factor": prepared["factor"].roll(1, 0)}
    for name in ("azimuth", "elevation", "range", "power", "phase", "snr_db", "kappa"):
        elsewhere[name] = prepared[name].roll(1, 0)
    moved = set()
    for located_by in (Search(task), Estimators(task, VIEW.limits())):
        told, others = located_by.locate(output, prepared), located_by.locate(output, elsewhere)
        moved |= {
            name
            for name in told
            if not torch.equal(told[name].estimates.points, others[name].estimates.points)
        }
    assert moved == {"MUSIC: ORACLE R_true"}
