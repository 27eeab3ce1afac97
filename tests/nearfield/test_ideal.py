from dataclasses import replace

import pytest
import torch

from ristune.nearfield.covariance import predicted_covariance, sample_covariance
from ristune.nearfield.loss import TERMS, prediction
from tests.nearfield.conftest import GEOMETRY, Drawn, make_task, simulator


def nothing(output):
    return {name: torch.zeros_like(values) for name, values in output.items()}


def test_every_term_is_zero_at_the_truth_and_not_elsewhere(task, drawn):
    task.weights = dict.fromkeys(TERMS, 1.0)
    output, batch = task.truth(drawn.batch)
    terms = task.loss(output, batch)
    assert set(terms) == set(TERMS)
    assert all(abs(term.item()) < 1e-4 for term in terms.values()), terms
    assert all(term.item() > 0.05 for term in task.loss(nothing(output), batch).values())


def test_prediction_sample_and_truth_are_one_matrix(task, drawn):
    output, batch = task.truth(drawn.batch)
    true = batch["factor"] @ batch["factor"].mH
    trace = true.diagonal(dim1=1, dim2=2).sum(1).real
    torch.testing.assert_close(trace, torch.full_like(trace, task.geometry.size), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        sample_covariance(batch["snapshots"] * batch["scale"].unsqueeze(1), batch["diagonal"]),
        true,
        rtol=0,
        atol=1e-5,
    )
    predicted = predicted_covariance(prediction(output), task.grid)
    torch.testing.assert_close(predicted, true, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{"wavefront": "fresnel"}, {"amplitude": "spherical"}])
def test_so_they_are_for_other_waves(changes):
    geometry = replace(GEOMETRY, **changes)
    drawn, task = Drawn(simulator(geometry=geometry)), make_task(geometry=geometry)
    task.attach(drawn)
    test_every_term_is_zero_at_the_truth_and_not_elsewhere(task, drawn)
    test_prediction_sample_and_truth_are_one_matrix(task, drawn)


def test_the_map_is_that_of_the_snapshots(task, drawn):
    _, batch = task.truth(drawn.batch)
    a = task.grid.responses
    true = batch["factor"] @ batch["factor"].mH
    power = torch.einsum("gm,bmn,gn->bg", a.conj(), true, a).real / task.geometry.size
    torch.testing.assert_close(batch["sample_map"], power, rtol=1e-4, atol=1e-4)


def test_the_truth_has_the_form_of_an_output(task, drawn):
    output, batch = task.truth(drawn.batch)
    prepared = task.prepare(drawn.batch)
    said = task.network(prepared)
    assert {k: v.shape for k, v in output.items()} == {k: v.shape for k, v in said.items()}
    assert set(batch) == set(prepared)
    assert batch["snapshots"].shape == prepared["snapshots"].shape
