# `make sweep` and `make test` need only Python 3.11 and pip.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: env sweep test fast lint
.DEFAULT_GOAL := env

env: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A first study: a small dataset, a few short trials, under ten minutes on two cores.
sweep: env
	$(RUN) -m ristune.sweep --trials 8 data.uri=data/nearfield-small \
		simulator.train=4096 simulator.val=512 simulator.test=512 training.epochs=6

# Everything CI runs: style, types, and every test, also those that start Ray or build the wheel.
test: lint
	$(RUN) -m pytest -m ""

# The tests that need a few seconds each at most.
fast: env
	$(RUN) -m pytest

lint: env
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
