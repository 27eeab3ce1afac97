# `make sweep` and `make fast` need only Python 3.11 and pip; `make test` also what `make tools` installs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# A real S3 server and real hosts for the tests, from Debian's packages.
PACKAGES := ceph-mon ceph-osd radosgw ceph-common iproute2 openssh-client openssh-server rsync util-linux

.PHONY: env sweep test fast lint tools
.DEFAULT_GOAL := env

env: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# A first study: a small dataset, a few short trials, under ten minutes on two cores.
sweep: env
	$(RUN) -m ristune.sweep --trials 8 data.uri=data/nearfield-small \
		simulator.train=4096 simulator.val=512 simulator.test=512 training.epochs=3

# Everything CI runs: style, types, the quick tests, and then, two at a time, those that start Ray, an S3 server
# or a cluster, or build the wheel. What tests have set up they share within a process (tests/groups.py).
test: lint fast
	$(RUN) -m pytest -m "ray or s3 or wheel or cluster" --numprocesses 2 --dist loadgroup

# The tests that need a few seconds each at most.
fast: env
	$(RUN) -m pytest --numprocesses auto --dist loadgroup

lint: env
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# What `make test` needs beside Python; asks for root only where something is missing.
tools:
	dpkg -s $(PACKAGES) > /dev/null 2>&1 || { apt-get update && apt-get install --yes $(PACKAGES); }
