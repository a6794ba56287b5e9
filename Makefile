# Two commands: `make distill` runs the main job on embedded data, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: distill test lint soak clean

distill: .venv/.core
	$(BIN)/attar distill

test: .venv/.dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

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

clean:
	rm -rf .venv build src/attar.egg-info
