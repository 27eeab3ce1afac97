import random

import numpy as np
import pytest
import torch

from ristune.training.rng import Generators, RandomState, seed_process

CPU = torch.device("cpu")


def draws():
    return [random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand(), torch.rand(()).item()]


@pytest.fixture(autouse=True)
def _seeded():
    seed_process(5)


def test_all_generators_go_back_to_a_captured_state():
    draws()
    state = RandomState.capture(CPU)
    wanted = draws()
    draws()
    state.restore(CPU)
    assert draws() == wanted


def test_a_state_goes_through_tensors_to_the_last_deviate_that_is_kept():
    # One normal deviate of each is kept for the next call.
    random.gauss(0, 1), np.random.normal()
    state = RandomState.capture(CPU)
    wanted = draws()
    RandomState.from_tensors(state.tensors()).restore(CPU)
    assert draws() == wanted


def test_states_captured_in_a_row_are_each_their_own():
    generators = Generators(CPU)
    states, drawn = [], []
    for n in range(12):
        states.append(generators.capture())
        # Sometimes nothing is drawn, sometimes one normal deviate, which leaves no trace in numpy's words.
        drawn.append([np.random.normal() for _ in range(n % 3)])
    for n, state in enumerate(states):
        state.restore(CPU)
        assert [np.random.normal() for _ in range(n % 3)] == drawn[n]
