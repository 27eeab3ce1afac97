# `make sweep` and `make fast` need only Python 3.11 and pip; `make test` also what `make tools` installs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

# A real S3 server and real hosts for the tests, from Debian's packages.
PACKAGES := ceph-mon ceph-osd radosgw ceph-common iproute2 openssh-client openssh-server rsync util-linux

.PHONY: env sweep test clusters fast lint tools
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

# Everything CI runs: style, types, the quick tests on every core, and then, one at a time, those that start Ray
# or an S3 server, or build the wheel.
test: lint fast
	$(RUN) -m pytest -m "(ray or s3 or wheel) and not cluster"

# Clusters of real hosts, made of namespaces, and a simulated EC2: as root.
clusters: env
	$(RUN) -m pytest -m cluster

# The tests that need a few seconds each at most; a file stays on one core, with what it has set up.
fast: env
	$(RUN) -m pytest --numprocesses auto --dist loadfile

lint: env
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# What `make test` needs beside Python; asks for root only where something is missing.
tools:
	dpkg -s $(PACKAGES) > /dev/null 2>&1 || { apt-get update && apt-get install --yes $(PACKAGES); }
