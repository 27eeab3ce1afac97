import numpy as np
import pytest
import torch

from ristune.errors import InputError
from ristune.nearfield.estimators import Estimators
from ristune.nearfield.measuring import Search
from ristune.training.forward import forward
from tests.nearfield.conftest import VIEW, Drawn, make_task, scene_sampler, simulator


def tables_of(drawn, scenes=20):
    task = make_task()
    task.attach(drawn)

    def predict(batch):
        with torch.no_grad():
            return forward(task, batch, "fp32", torch.device("cpu"))

    halves = [{k: v[part] for k, v in drawn.batch.items()} for part in (slice(0, 40), slice(40, 64))]
    return task.evaluate(halves, predict, scenes).tables, task, predict


def test_floor_constant_sample_and_oracle_stand_beside_the_network(drawn):
    tables, task, predict = tables_of(drawn)
    by_k, by_snr, located, errors, ratios, counts = tables.values()
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
        "sparse Bayesian learning",
        "maximum likelihood",
        "maximum likelihood, exchanged",
        "hybrid: K by the network",
        "maximum likelihood: K by BIC",
    ]
    assert all(row["ms"] > 0 for row in located)
    names = [row["estimator"] for row in located]
    assert [row["estimator"] for row in ratios] == names
    assert [row["estimator"] for row in errors] == [*names, "Cramer-Rao bound, median"]
    assert "20 scenes, told the true K" in list(tables)[2]
    assert sum(sum(value for name, value in row.items() if name) for row in counts) == 2 * 20
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
    # Where it is not told, K is a label as well.
    counted = {**elsewhere, "num_sources": prepared["num_sources"].roll(1, 0)}
    moved = set()
    for located_by in (Search(task), Estimators(task, VIEW.limits())):
        told, others = located_by.locate(output, prepared), located_by.locate(output, elsewhere)
        moved |= {
            name
            for name in told
            if not torch.equal(told[name].estimates.points, others[name].estimates.points)
        }
    assert moved == {"MUSIC: ORACLE R_true"}
    estimators = Estimators(task, VIEW.limits())
    told, others = estimators.locate(output, prepared), estimators.locate(output, counted)
    for name in ("hybrid: K by the network", "maximum likelihood: K by BIC"):
        assert torch.equal(told[name].estimates.points, others[name].estimates.points)


def cells_of(task, predict, **cells):
    return task.evaluate_cells({name: [drawn.batch] for name, drawn in cells.items()}, predict, 24)


def test_cells_are_columns_and_the_hybrid_is_compared_with_each(drawn):
    _, task, predict = tables_of(drawn)
    easy = Drawn(simulator(scene_sampler(num_sources=[1, 1]), snr_db=(20, 20)), rows=24)
    hard = Drawn(simulator(scene_sampler(num_sources=[3, 3]), snr_db=(0, 0)), rows=24)
    tables = cells_of(task, predict, easy=easy, hard=hard).tables
    success = next(rows for title, rows in tables.items() if title.startswith("success"))
    by_name = {row["estimator"]: row for row in success}
    assert by_name["maximum likelihood"]["easy"] == 1 and by_name["maximum likelihood"]["hard"] < 0.5
    bound = next(rows for title, rows in tables.items() if title.startswith("median Cramer-Rao"))
    assert all(row["easy"] < row["hard"] for row in bound)
    less = next(rows for title, rows in tables.items() if title.startswith("F1 of the hybrid less"))
    assert [row["less"] for row in less] == [
        "control: untrained network",
        "control: matched filter",
        "control: minimum variance",
        "maximum likelihood",
        "maximum likelihood, exchanged",
    ]
    assert all(len(row["hard"].split()) == 3 for row in less)


def test_figures_have_marks_and_axes_with_units(drawn):
    from matplotlib.figure import Figure

    _, task, predict = tables_of(drawn)
    figures = task.evaluate([drawn.batch], predict, 32).figures
    assert list(figures) == [
        "RMSE of azimuth against SNR",
        "RMSE of elevation against SNR",
        "RMSE of range against SNR",
        "recall against separation",
        "one scene: predicted power, truth and estimates",
    ]
    for title, draw in figures.items():
        axes = Figure().add_subplot()
        draw(axes)
        assert axes.get_xlabel() and axes.get_ylabel() and axes.get_legend() is not None
        if "RMSE" in title:
            lines = {line.get_label(): line.get_ydata() for line in axes.lines}
            bound = lines["Cramer-Rao bound, of what maximum likelihood, exchanged hits"]
            assert np.isfinite(bound).any()
            assert np.isfinite(lines["maximum likelihood"]).any()
        elif "recall" in title:
            assert any(np.isfinite(line.get_ydata()).any() for line in axes.lines)
        else:
            truth, *found = axes.collections
            assert len(truth.get_offsets()) == len(found[0].get_offsets()) == 5


def test_values_of_a_cell_are_those_of_the_simulator_and_others_are_refused(task):
    assert task.cell_values({"snr": 10.0, "k": 3.0}) == {
        "channel.snr_db": [10.0, 10.0],
        "scene.num_sources": [3, 3],
    }
    for values, message in (({"kappa": 1.0}, "got 'kappa'; it must be one of snr, k"), ({"k": 1.5}, "1.5")):
        with pytest.raises(InputError, match=message):
            task.cell_values(values)


def test_levels_of_cells_are_drawn_where_they_are_and_the_bound_is_of_the_sources_that_were_hit(drawn):
    from matplotlib.figure import Figure

    _, task, predict = tables_of(drawn)
    one = scene_sampler(num_sources=[1, 1])
    cells = {f"{level}": Drawn(simulator(one, snr_db=(level, level)), rows=24) for level in (17, 18.5)}
    draw = cells_of(task, predict, **cells).figures["RMSE of azimuth against SNR"]
    axes = Figure().add_subplot()
    draw(axes)
    lines = {line.get_label(): line for line in axes.lines}
    bound = lines["Cramer-Rao bound, of what maximum likelihood, exchanged hits"]
    assert bound.get_xdata().tolist() == [17, 18.5]
    # One source a scene at a high SNR: maximum likelihood is at the bound.
    ratio = lines["maximum likelihood, exchanged"].get_ydata() / bound.get_ydata()
    assert ((0.7 < ratio) & (ratio < 1.3)).all()


def test_the_scene_that_is_shown_has_the_most_sources_at_the_best_snr(drawn):
    _, task, predict = tables_of(drawn)
    most = drawn.batch["num_sources"] == drawn.batch["num_sources"].max()
    best = drawn.batch["snr_db"][most].max().item()
    from matplotlib.figure import Figure

    draw = task.evaluate([drawn.batch], predict, 8).figures["one scene: predicted power, truth and estimates"]
    axes = Figure().add_subplot()
    draw(axes)
    assert axes.get_title() == f"K = 5, SNR {best:.1f} dB"
