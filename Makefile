# Two commands: `make distill` runs the main job on embedded data, `make test` checks everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: distill test lint soak clean

distill: .venv/.core
	$(BIN)/attar distill

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

# Kill every method's run at random moments and resume it, then read ten thousand random recipes; tens of minutes.
soak: .venv/.dev
	$(BIN)/python benchmarks/soak.py

.venv/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.dev: .venv/.core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build src/attar.egg-info
