"""Columns, weights and what `prepare` makes of them: what was not finite before the network is named."""

import pytest
import torch

from tests.training.planted import OnX, Planted, Ratio, batch, found, line_of, linear, mean


def spoiled(bad=torch.nan, row=2):
    x = batch()["x"]
    x[row, 1] = bad
    return {"x": x}


@pytest.mark.parametrize(("bad", "kind"), [(torch.nan, "NaN"), (-torch.inf, "inf")])
def test_a_column_that_is_not_finite_is_named_with_its_rows(bad, kind):
    (finding,) = found(Planted(linear(), mean), batch(), spoiled(bad))
    assert (finding.stage, finding.operation) == ("input", None)
    assert (
        f"column 'x' is not finite in 1 of 8 rows of micro-batch 2 (2), 1 of 32 values {kind}"
        in finding.detail
    )
    assert "it reaches loss term 'mean'" in finding.detail and "clean the column 'x'" in finding.remedy


def test_complex_columns_are_looked_at_too():
    wave = torch.ones(8, 2, dtype=torch.complex64)
    wave[5, 0] = complex(0, torch.inf)
    task = Planted(linear(), lambda output, batch: {"power": output.mean() + batch["wave"].abs().mean()})
    (finding,) = found(task, batch(wave=wave))
    assert "'wave'" in finding.detail and "1 of 8 rows (5)" in finding.detail


def test_a_column_that_no_term_is_affected_by_is_told_apart():
    unused = torch.full((8,), torch.nan)
    (finding,) = found(Planted(linear(), mean), batch(unused=unused))
    assert finding.stage == "input" and "no loss term is affected by it" in finding.detail
    cause, spectator = found(Planted(OnX(Ratio()), mean), batch(unused=unused))
    assert cause.operation == "aten.div" and "'unused'" in spectator.detail


def test_a_weight_that_is_not_finite_is_named():
    network = linear()
    with torch.no_grad():
        network.body.weight[0, 0] = torch.nan
    (finding,) = found(Planted(network, mean))
    assert finding.stage == "input" and "the weight body.weight has 1 of 16 values NaN" in finding.detail


def test_nan_made_by_prepare_is_named_there():
    def prepare(batch):
        power = batch["x"].square().sum(1, keepdim=True)
        return {**batch, "x": batch["x"] / power}

    (finding,) = found(Planted(linear(), mean, prepare), {"x": torch.zeros(8, 4)})
    assert (finding.stage, finding.operation, finding.module) == ("prepare", "aten.div", None)
    assert (
        "32 of 32 values NaN" in finding.detail and "its inputs are finite, 0 in magnitude" in finding.detail
    )
    assert finding.where.startswith(line_of(__file__, 'return {**batch, "x": batch["x"] / power}'))


def test_what_prepare_made_and_the_loss_masks_is_noted_after_the_cause():
    def prepare(batch):
        return {**batch, "label": batch["x"][:, 0] / batch["count"]}

    def loss(output, batch):
        error = output[:, 0] - batch["label"]
        return {"squared": torch.where(error.isfinite(), error.square(), 0).mean()}

    task = Planted(linear(), loss, prepare)
    cause, note = found(task, batch(count=torch.tensor([0, 1, 1, 1, 1, 1, 1, 1])))
    assert cause.stage == "backward"
    assert (note.stage, note.operation) == ("prepare", "aten.div")
    assert "it reaches prepare's 'label', though no loss term's value shows it" in note.detail


def test_a_part_written_to_does_not_hide_the_rest():
    def loss(output, batch):
        values = torch.zeros(2, 8)
        values[0].add_(batch["label"])
        values[1].add_(torch.zeros(8).log())
        return {"mean": output.mean() + values.exp().mean()}

    (finding,) = found(Planted(linear(), loss), batch(label=torch.full((8,), torch.nan)))
    assert finding.stage == "input" and "'label'" in finding.detail


def test_a_fault_beside_a_column_that_is_not_finite_is_found_too():
    def loss(output, batch):
        return {"mean": (output / (0 * output)).sum() + batch["label"].mean()}

    column, fault = found(Planted(linear(), loss), batch(label=torch.full((8,), torch.nan)))
    assert "'label'" in column.detail and fault.operation == "aten.div"


def whitened(output, batch):
    factor = torch.linalg.cholesky(torch.eye(4) + batch["label"].mean())
    return {"mean": (output @ factor).mean()}


def test_linear_algebra_that_refuses_a_column_does_not_end_the_search():
    (finding,) = found(Planted(linear(), whitened), batch(label=torch.full((8,), torch.nan)))
    assert finding.stage == "input" and "'label'" in finding.detail
    assert "it reaches aten.linalg_cholesky_ex, which raises 'linalg.cholesky:" in finding.detail


def test_linear_algebra_that_refuses_what_the_task_made_names_the_maker():
    (finding,) = found(Planted(linear(), whitened), batch(label=torch.full((8,), -9.0)))
    assert finding.operation == "aten.linalg_cholesky_ex" and "raises 'linalg.cholesky:" in finding.detail
    assert finding.where.startswith(line_of(__file__, "factor = torch.linalg.cholesky("))
    task = Planted(linear(), lambda output, batch: whitened(output, {"label": batch["label"].log()}))
    (finding,) = found(task, batch(label=torch.full((8,), -9.0)))
    assert finding.operation == "aten.log" and "it reaches aten.linalg_cholesky_ex" in finding.detail


def test_a_column_is_cleaned_by_finite_rows_and_not_by_zeros_that_would_break_the_task_too():
    def prepare(batch):
        return {**batch, "x": batch["x"] / batch["x"].square().sum(1, keepdim=True)}

    broken = batch()
    broken["x"][2] = torch.nan
    (finding,) = found(Planted(linear(), mean, prepare), broken)
    assert finding.stage == "input"
