# `make distill` runs the main job on embedded data, `make test` checks a change, `make test-all` everything.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: distill test test-all test-oldest test-wheel coverage check docs soak clean

distill: .venv/.core
	$(BIN)/attar distill

# Neighbouring tests go to one process, which makes what they share once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# The tests start a hundred commands: each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

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

# Core tests with the lowest versions that pyproject.toml allows. TORCH_INDEX is an index of CPU builds of torch; without
# it the one of PyPI is installed, which brings CUDA (2.5 GB).
test-oldest: .venv-oldest/.core
	.venv-oldest/bin/python -m pytest -W ignore::DeprecationWarning -m "not slow" $(CORE_TESTS)

CORE_TESTS := tests/conformance tests/losses tests/methods tests/metrics tests/models/surgery tests/models/zoo \
	tests/train tests/experiments/test_resume.py tests/test_api.py tests/test_knowledge.py tests/test_recipe.py

.venv-oldest/.core: pyproject.toml tests/support/floors.py
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	$(PYTHON) tests/support/floors.py > .venv-oldest/floors.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/floors.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--editable . pytest hypothesis torchmetrics scikit-learn pillow
	touch $@

# A wheel, in an environment that has nothing else, distils the digits.
test-wheel:
	rm -rf .venv-wheel build/wheel
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --constraint constraints.txt build/wheel/attar-*.whl
	cd build/wheel && ../../.venv-wheel/bin/attar distill epochs=3 teacher.epochs=3 alone=skip seeds=1 out=run
	test -s build/wheel/run/student.safetensors

# Kill runs, caches and processes at random moments, change inputs, damage run folders and images, fill disks, watch
# memory, read random recipes; some 40 minutes.
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
	rm -rf .venv .venv-oldest .venv-wheel build site src/attar.egg-info
