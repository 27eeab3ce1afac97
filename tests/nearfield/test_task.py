from dataclasses import replace

import pytest
import torch

from ristune.config import compose
from ristune.errors import InputError
from ristune.nearfield.covariance import Prediction, moments, nmse
from ristune.nearfield.loss import moments_of, prediction
from ristune.nearfield.scene import true_points
from ristune.nearfield.terms import misplaced
from ristune.nearfield.view import FieldOfView
from ristune.training.forward import forward
from tests.nearfield.conftest import GEOMETRY, Drawn, make_task, scene_sampler, simulator

CPU = torch.device("cpu")


def at_truth(task, prepared):
    """Moments of a prediction that is the truth: what every covariance error must be minimal at."""
    factor = prepared["factor"]
    power = torch.view_as_real(factor.mH @ factor).square().sum((-1, -2, -3))
    gamma = torch.zeros(len(factor), len(task.grid.points))
    of = moments(
        Prediction(gamma, torch.zeros(len(factor))),
        task.grid,
        factor,
        prepared["snapshots"],
        prepared["diagonal"],
        prepared["scaled_map"],
    )
    return replace(of, pred_pred=power, pred_true=power, samp_pred=of.samp_true)


def test_every_parameter_has_a_gradient(task, drawn):
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    sum(task.loss(output, batch).values()).backward()
    for name, parameter in task.network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_half_precision_of_the_network_barely_moves_the_errors(task, drawn):
    """Logits are summed and the softmax taken in FP32, the covariance never leaves it."""
    errors = []
    for precision in ("fp32", "bf16"):
        with torch.no_grad():
            output, batch = forward(task, drawn.batch, precision, CPU)
        assert {values.dtype for values in output.values()} == {torch.float32}
        errors.append(task.metrics(output, batch)["nmse_pred"])
    assert errors[1].mean().item() == pytest.approx(errors[0].mean().item(), rel=0.02)


def test_every_weighted_term_is_non_zero_and_named(task, drawn):
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    terms = task.loss(output, batch)
    assert set(terms) == {"nmse_pred", "nmse_blend", "count"} and all(t > 0.1 for t in terms.values())


def test_the_error_of_the_prediction_is_zero_at_the_truth(task, drawn):
    of = at_truth(task, task.prepare(drawn.batch))
    assert nmse(of, 1.0).mean().item() == pytest.approx(0, abs=1e-5)
    # The documented rest of the blend: what R_samp brings in.
    of_sample = nmse(of, 0.0).mean().item()
    assert nmse(of, 0.8).mean().item() == pytest.approx(0.2**2 * of_sample, rel=1e-3)


def test_a_jitter_of_the_blend_moves_the_loss_and_no_metric(drawn):
    task = make_task(beta=0.9, beta_jitter=0.3)
    task.attach(drawn)
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    torch.manual_seed(0)
    losses = [task.loss(output, batch)["nmse_blend"].item() for _ in range(40)]
    of = moments_of(prediction(output), task.grid, batch)
    both = [moments_of(prediction(output, stage), task.grid, batch) for stage in (0, 1)]
    ends = [0.25 * sum(nmse(of, beta).mean().item() for of in both) for beta in (0.6, 1.0)]
    assert len(set(losses)) > 20 and min(ends) <= min(losses) and max(losses) <= max(ends)
    # Drawn from the generator that a resumed training restores.
    torch.manual_seed(0)
    assert task.loss(output, batch)["nmse_blend"].item() == losses[0]
    values = [task.metrics(output, batch)["nmse_blend"] for _ in range(2)]
    assert torch.equal(*values) and torch.equal(values[0], nmse(of, 0.9))


def test_the_objective_ignores_every_value_a_sweep_may_search(drawn):
    tasks = [
        make_task(loss={"nmse_pred": 1.0, "nmse_blend": 0.5, "location": 1.0}, beta=0.8),
        make_task(loss={"nmse_pred": 0.01, "nmse_blend": 0.0, "location": 0.1}, beta=0.1),
    ]
    values = []
    for task in tasks:
        task.attach(drawn)
        output, batch = forward(task, drawn.batch, "fp32", CPU)
        values.append(task.metrics(output, batch))
    assert torch.equal(*(value[compose().training.objective] for value in values))
    assert not torch.allclose(values[0]["nmse_blend"], values[1]["nmse_blend"])


def test_floor_and_best_constant_are_measured_beside_the_network(task, drawn):
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    means = {k: v.mean().item() for k, v in task.metrics(output, batch).items()}
    assert means["nmse_floor"] == pytest.approx(0.98, abs=0.01)
    # Fitted to these very 64 scenes, so below the 0.96 of a large dataset.
    assert 0.85 < means["nmse_constant"] < 0.965
    assert all(v.shape == (64,) for v in task.metrics(output, batch).values())


def test_the_best_constant_is_no_worse_than_any_multiple_of_the_identity(task, drawn):
    factor = task.prepare(drawn.batch)["factor"]
    truth = factor @ factor.mH
    square = truth.abs().square().sum((1, 2))
    best = ((task._constant - truth).abs().square().sum((1, 2)) / square).mean()
    for scale in (0.01, 0.1, 0.3, 1.0):
        other = ((scale * torch.eye(144) - truth).abs().square().sum((1, 2)) / square).mean()
        assert best < other


def test_predictions_vary_across_scenes(task, drawn):
    output, _ = forward(task, drawn.batch, "fp32", CPU)
    assert prediction(output).gamma.std(dim=0).max() > 1e-3


def test_the_network_is_given_the_channel(task, drawn):
    """Fed another scene's channel, the same snapshots give another map: H is really used."""
    swapped = {**drawn.batch, "h": drawn.batch["h"].roll(1, 0)}
    maps = [task.prepare(batch)["sample_map"] for batch in (drawn.batch, swapped)]
    assert (maps[0] - maps[1]).abs().mean() > 0.1 * maps[0].mean()


def test_the_network_is_told_the_noise(task, drawn):
    prepared = task.prepare(drawn.batch)
    louder = {**prepared, "ridge": prepared["ridge"] * 100}
    with torch.no_grad():
        assert not torch.allclose(task.network(prepared)["map"], task.network(louder)["map"], atol=1e-3)


def test_more_sources_than_the_network_tells_are_refused():
    with pytest.raises(
        InputError, match="task.max_sources: got 4; it must be at least the K of drawn, up to 5"
    ):
        make_task(max_sources=4).attach(Drawn(simulator()))


def test_the_right_count_is_measured(task, drawn):
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    said = torch.nn.functional.one_hot(batch["num_sources"].long() - 1, 5).float()
    said[:16] = said[:16].roll(1, 1)
    assert task.metrics({**output, "count": said}, batch)["count_right"].mean().item() == 0.75


def test_a_dataset_of_another_surface_is_refused():
    other = make_task(geometry=replace(GEOMETRY, wavelength=0.2))
    with pytest.raises(InputError, match="data.uri: got 'drawn'; its surface must be the task's.*0.3.*0.2"):
        other.attach(Drawn(simulator()))


def test_scenes_outside_of_the_field_of_view_are_refused():
    narrow = make_task(field_of_view=FieldOfView([-60, 60], [-30, 30], [2, 5]))
    with pytest.raises(InputError, match=r"task.field_of_view.range_m: got \[2, 5\].*lie in \[2, 10\]"):
        narrow.attach(Drawn(simulator()))


def test_coherent_data_get_coherent_labels():
    drawn = Drawn(simulator(scene_sampler(source_model="static")))
    task = make_task()
    task.attach(drawn)
    assert task.prepare(drawn.batch)["factor"].shape == (64, 144, 1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"loss": {"nmse_pred": -1.0}}, "task.loss.nmse_pred: got -1.0"),
        ({"loss": {"nmse": 1.0}}, "task.loss.nmse: got 1.0"),
        ({"loss": {"nmse_pred": 0.0}}, "at least one weight must be above 0"),
        ({"beta": 1.5}, "task.beta: got 1.5"),
        ({"beta_jitter": -0.1}, "task.beta_jitter: got -0.1"),
        ({"grid": [6, 13]}, "task.grid: got"),
        (
            {"network": {"width": -4, "blocks": 1, "stages": 1}},
            "task.network.width: got -4; it must be at least 1",
        ),
    ],
)
def test_values_out_of_range_are_refused_by_name(changes, match):
    with pytest.raises(InputError, match=match):
        make_task(**changes)


def test_it_overfits_a_few_scenes(drawn):
    task = make_task(
        network={"width": 32, "blocks": 2, "stages": 2},
        grid=[6, 13, 23],
        loss={"nmse_pred": 1.0, "count": 0.1},
    )
    task.attach(drawn)
    optimizer = torch.optim.AdamW(task.network.parameters(), lr=3e-3)
    few = {name: column[:32] for name, column in drawn.batch.items()}
    for _ in range(120):
        output, batch = forward(task, few, "fp32", CPU)
        loss = sum(task.loss(output, batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25


def test_sources_are_unordered_no_term_or_metric_knows_their_order(task, drawn):
    columns = ("azimuth", "elevation", "range", "power", "phase")
    turned = {k: v.flip(1) if k in columns else v for k, v in drawn.batch.items()}
    assert not torch.equal(turned["azimuth"], drawn.batch["azimuth"])
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    same, other = forward(task, turned, "fp32", CPU)
    assert all(torch.equal(output[name], same[name]) for name in output)
    for of in (task.loss, task.metrics):
        wanted, found = of(output, batch), of(output, other)
        assert all(torch.allclose(wanted[k], found[k], rtol=1e-4, atol=1e-6) for k in wanted)


def test_misplaced_power_is_measured_on_the_answer_of_the_last_stage(task, drawn):
    output, batch = forward(task, drawn.batch, "fp32", CPU)
    labels = true_points(batch), batch["power"], task.geometry
    wanted = misplaced(prediction(output), task.grid, *labels)
    assert torch.equal(task.metrics(output, batch)["misplaced"], wanted)
    assert not torch.allclose(misplaced(prediction(output, 0), task.grid, *labels), wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_model": "static"}, "simulator.scene.source_model: got 'static'"),
        ({"range_m": [1, 5]}, "task.field_of_view.range_m"),
        ({"num_sources": [1, 7]}, "task.max_sources: got 5"),
    ],
)
def test_cells_of_scenes_that_it_was_not_trained_for_are_refused(task, change, message):
    task.check_cell(simulator(scene_sampler(num_sources=[3, 3])).parameters())
    with pytest.raises(InputError, match=message):
        task.check_cell(simulator(scene_sampler(**change)).parameters())
