"""The sample covariance: ridge recovery, debiasing, loading, and factors that exist only with jitter."""

from dataclasses import replace

import pytest
import torch

from ristune.errors import InputError
from ristune.nearfield.covariance import sample_covariance
from ristune.nearfield.recovery import (
    JITTER,
    SampleOptions,
    factorise,
    normalise,
    ridge_factor,
    ridge_parameter,
    ridge_snapshots,
)
from tests.nearfield.conftest import CODES, Drawn, make_task, scene_sampler, simulator

PLAIN = SampleOptions(debias=False, loading=0.0)


def dual(y, h, codes, alpha, unit_modulus):
    factor, jittered = ridge_factor(h, codes, alpha, unit_modulus)
    assert not jittered.any()
    return ridge_snapshots(y, h, codes, factor)


def lstsq_snapshots(y, h, codes, alpha):
    """The augmented least-squares problem, in double precision: the reference."""
    phi = h.unsqueeze(1).to(torch.complex128) * codes.unsqueeze(1)
    batch, count, antennas, size = phi.shape
    eye = torch.eye(size, dtype=torch.complex128).expand(batch, count, size, size)
    stacked = torch.cat([phi, alpha.double().sqrt()[:, None, None, None] * eye], dim=2)
    target = torch.cat([y, torch.zeros(batch, count, size)], dim=2).to(torch.complex128)
    return torch.linalg.lstsq(stacked, target.unsqueeze(-1)).solution.squeeze(-1)


def normal_equations(y, h, codes, alpha):
    """(Phi^H Phi + alpha I)^-1 Phi^H y in double precision: in complex64 it is wrong."""
    phi = h.unsqueeze(1).to(torch.complex128) * codes.unsqueeze(1)
    matrix = phi.mH @ phi + alpha.double()[:, None, None, None] * torch.eye(phi.shape[-1])
    return torch.linalg.solve(matrix, phi.mH @ y.to(torch.complex128).unsqueeze(-1)).squeeze(-1)


def test_four_ways_of_computing_the_ridge_agree(task, drawn):
    batch = {k: v[:3] for k, v in drawn.batch.items()}
    y, h = torch.view_as_complex(batch["y"]), torch.view_as_complex(batch["h"].float())
    codes = task.codes(batch)
    alpha = ridge_parameter(y, h, codes, batch["noise_var"])
    expected = lstsq_snapshots(y, h, task._codes[0], alpha)
    assert torch.allclose(normal_equations(y, h, task._codes[0], alpha), expected)
    for unit_modulus in (True, False):
        found = dual(y, h, codes, alpha, unit_modulus)
        error = torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)
        assert error < 1e-5


def test_codes_of_other_amplitudes_have_a_factor_each():
    jittered = replace(CODES, amplitude_jitter=0.2, dropout=0.2)
    drawn = Drawn(simulator(codes=jittered), rows=3)
    task = make_task()
    task.attach(drawn)
    y, h = torch.view_as_complex(drawn.batch["y"]), torch.view_as_complex(drawn.batch["h"].float())
    codes = task.codes(drawn.batch)
    alpha = ridge_parameter(y, h, codes, drawn.batch["noise_var"])
    expected = lstsq_snapshots(y, h, codes[0], alpha)
    found = dual(y, h, codes, alpha, unit_modulus=False)
    assert torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected) < 1e-5
    assert torch.allclose(task.prepare(drawn.batch)["snapshots"], normalise(found))
    # The shared factor would be wrong for them.
    shared = dual(y, h, codes, alpha, unit_modulus=True)
    assert torch.linalg.vector_norm(shared - expected) / torch.linalg.vector_norm(expected) > 0.05


def test_the_ridge_is_the_noise_over_the_power_of_an_element(drawn):
    y = torch.view_as_complex(drawn.batch["y"])
    h = torch.view_as_complex(drawn.batch["h"].float())
    codes = torch.ones(64, 16, 144, dtype=torch.complex64)
    alpha = ridge_parameter(y, h, codes, drawn.batch["noise_var"])
    # The powers of a scene sum to 1, so an element's field has unit power on average.
    ratio = (alpha / drawn.batch["noise_var"])[drawn.batch["snr_db"] > 5]
    assert ratio.log().mean().exp() == pytest.approx(1, abs=0.15)


def test_silence_stays_finite():
    assert torch.isfinite(normalise(torch.zeros(2, 3, 4, dtype=torch.complex64)).abs()).all()


def r_samp(prepared):
    scaled = prepared["snapshots"] * prepared["scale"].unsqueeze(1)
    return sample_covariance(scaled, prepared["diagonal"])


@pytest.mark.parametrize("options", [{"debias": True, "loading": 0.0}, {"debias": False, "loading": 0.3}])
def test_the_networks_input_and_minimum_variance_know_nothing_of_it(drawn, options):
    plain, other = make_task(), make_task(sample=options)
    for task in (plain, other):
        task.attach(drawn)
    wanted, found = plain.prepare(drawn.batch), other.prepare(drawn.batch)
    for name in ("snapshots", "sample_map", "ridge"):
        assert torch.equal(wanted[name], found[name])
    assert not torch.allclose(wanted["scaled_map"], found["scaled_map"], rtol=0.1)


def sample_error(source, options):
    """Mean squared error of the off-diagonals of R_samp, relative to their truth."""
    drawn, task = Drawn(source, rows=3), make_task(sample=options)
    task.attach(drawn)
    prepared = task.prepare(drawn.batch)
    found = r_samp(prepared)
    true = prepared["factor"] @ prepared["factor"].mH
    outside = ~torch.eye(144, dtype=torch.bool)
    return ((found - true)[:, outside].abs().square().sum() / true[:, outside].abs().square().sum()).item()


@pytest.mark.parametrize("codes", [CODES, replace(CODES, amplitude_jitter=0.2, dropout=0.2)])
def test_a_debiased_covariance_tends_to_the_truth_and_the_plain_one_does_not(codes):
    two = scene_sampler(num_sources=[2, 2])
    source = simulator(two, snapshots=4096, codes=codes, snr_db=(20, 20))
    assert sample_error(source, {"debias": True, "loading": 0.0}) < 0.2
    assert sample_error(source, {"debias": False, "loading": 0.0}) > 0.5


def test_loading_adds_a_share_of_the_identity(drawn):
    matrices = []
    for loading in (0.0, 0.5):
        task = make_task(sample={"debias": False, "loading": loading})
        task.attach(drawn)
        prepared = task.prepare(drawn.batch)
        matrices.append(r_samp(prepared))
    plain, loaded = matrices
    assert torch.allclose(1.5 * loaded, plain + 0.5 * torch.eye(144), atol=1e-4)


@pytest.mark.parametrize("loading", [-0.1, float("nan"), float("inf")])
def test_a_loading_that_is_no_share_is_refused(loading):
    with pytest.raises(InputError, match="task.sample.loading"):
        SampleOptions(debias=False, loading=loading)


def test_a_matrix_without_a_factor_gets_jitter_and_is_counted():
    good = torch.eye(3, dtype=torch.complex64) * 4
    bad = torch.tensor([[1.0, 1.0], [1.0, 1.0 - 1e-6]])
    bad = torch.block_diag(bad, torch.ones(1, 1)).to(torch.complex64)
    hopeless = -good
    factor, failed = factorise(torch.stack([good, bad, hopeless]))
    assert failed.tolist() == [False, True, True]
    assert torch.allclose(factor[0] @ factor[0].mH, good)
    expected = bad + JITTER * bad.diagonal().real.mean() * torch.eye(3)
    assert torch.allclose(factor[1] @ factor[1].mH, expected, atol=1e-6)
    # A number would hide it.
    assert factor[2].isnan().any()


def test_channels_without_a_factor_are_reported_and_stay_finite(drawn):
    """Two equal antennas at a very high SNR: H H^H is singular, and the ridge does not help."""
    task = make_task()
    task.attach(drawn)
    batch = {name: column.clone() for name, column in drawn.batch.items()}
    batch["h"][:5, 1] = batch["h"][:5, 0]
    batch["y"][:5, :, 1] = batch["y"][:5, :, 0]
    batch["noise_var"][:5] = 1e-12
    prepared = task.prepare(batch)
    assert prepared["jittered"].tolist() == [True] * 5 + [False] * 59
    assert torch.isfinite(torch.view_as_real(prepared["snapshots"])).all()
    output = {"map": torch.zeros(64, 1, len(task.grid.points) + 1), "count": torch.zeros(64, 5)}
    assert task.metrics(output, prepared)["jittered"].mean().item() == pytest.approx(5 / 64)


@pytest.mark.parametrize("codes", [CODES, replace(CODES, amplitude_jitter=0.4, dropout=0.3)])
def test_debiased_elements_are_divided_by_what_recovery_keeps_of_them(codes):
    drawn, task = Drawn(simulator(codes=codes), rows=3), make_task(sample={"debias": True, "loading": 0.0})
    task.attach(drawn)
    prepared = task.prepare(drawn.batch)
    h = torch.view_as_complex(drawn.batch["h"].double())
    phi = h.unsqueeze(1) * prepared["codes"].to(h.dtype).unsqueeze(2)
    alpha = prepared["ridge"].double() * 144
    inverse = torch.linalg.inv(phi @ phi.mH + alpha[:, None, None, None] * torch.eye(16))
    kept = (phi.mH @ inverse @ phi).diagonal(dim1=2, dim2=3).real.mean(1)
    # The scale is one number a scene over q.
    constant = prepared["scale"].double() * kept
    assert torch.allclose(constant, constant.mean(1, keepdim=True).expand_as(constant), rtol=1e-3)
