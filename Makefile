# `make distill` runs the main job on embedded data, `make test` checks a change, `make test-all` everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: distill test test-all coverage check docs soak clean

distill: .venv/.core
	$(BIN)/attar distill

# Neighbouring tests go to one process, which makes what they share once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: check
	$(PYTEST) -m "not slow"

# The heavy sweeps on every method, too.
test-all: check
	$(PYTEST)

coverage: .venv/.dev
	$(PYTEST) -m "not slow" --cov=attar --cov-branch --cov-report=term:skip-covered

check: .venv/.dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy

# The documentation site, into site/; a warning or a broken link fails.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# Kill runs and caches at random moments, break images, watch memory, read random recipes; some 15 minutes.
soak: .venv/.dev
	$(BIN)/python benchmarks/soak

.venv/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.docs: .venv/.core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv build site src/attar.egg-info
