# Two commands: `make reproduce` (the paper in miniature) and `make test`.
# Everything is installed into .venv; Python 3.11 or later is needed.

PYTHON ?= python3
BACKENDS ?= tensorflow jax
JOBS ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count() or 1)")
# Any build of PyTorch from this version on; name a CPU build to spare the download of CUDA.
TORCH ?= torch==2.13.0

BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DELETE_ON_ERROR:
.PHONY: install reproduce test figures benchmark benchmark-gpu docs drills package lint format clean \
  $(BACKENDS:%=test-%) test-any

# Installation: a stamp for each set of requirements, each after the one before. What uses more than the
# first waits for all of them, so that with --jobs nothing runs while .venv changes.

.venv/created:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and \
	  'Python 3.11 or later is needed, this is ' + sys.version.split()[0] + ': make PYTHON=python3.12 ...')"
	$(PYTHON) -m venv .venv
	@touch $@

.venv/experiments: .venv/created setup.cfg pyproject.toml
	$(BIN)/pip install --quiet --editable ".[experiments,jax]"
	@touch $@

.venv/development: .venv/experiments
	$(BIN)/pip install --quiet --editable ".[experiments,jax,test,docs]"
	@touch $@

.venv/torch: .venv/development
	$(BIN)/pip install --quiet $(TORCH)
	@touch $@

install: .venv/development $(if $(filter torch,$(BACKENDS)),.venv/torch)

# The paper in miniature, on the digits that come with scikit-learn.

reproduce: export KERAS_BACKEND ?= jax
reproduce: .venv/experiments
	$(BIN)/python -m experiments run --protocol digits --studies paper --results reproduction --jobs $(JOBS)
	$(BIN)/python -m experiments collect --protocol digits --studies paper --results reproduction
	$(BIN)/python -m experiments run --protocol test_time --seeds 0 --results reproduction --jobs $(JOBS)
	$(BIN)/python -m experiments collect --protocol test_time --seeds 0 --results reproduction
	$(BIN)/python -m paper_figures --results reproduction --output reproduction/figures
	@echo "Open reproduction/figures/report.html; tables and figures lie beside it, runs in reproduction/runs."

# Tables, figures and the report from the committed runs, offline; git keeps pictures and texts of them.

figures: .venv/experiments
	$(BIN)/python -m experiments collect
	$(BIN)/python -m paper_figures --pages README.md docs/test-time-statistics.md

# The layers' speed beside other layers', minutes for each backend, one after another; nothing else should run.

benchmark: install
	for backend in $(BACKENDS); do KERAS_BACKEND=$$backend $(BIN)/python -m experiments benchmark || exit 1; done
	$(MAKE) figures

# The same on a GPU, in float32 and bfloat16, where the backend has one; else it says so.

GPU_BACKENDS ?= jax torch

benchmark-gpu: install $(if $(filter torch,$(GPU_BACKENDS)),.venv/torch)
	for backend in $(GPU_BACKENDS); do KERAS_BACKEND=$$backend $(BIN)/python -m experiments benchmark --gpu || exit 1; done
	$(MAKE) figures

# The documentation, into docs/_build/html; a warning is an error.

docs: install
	$(MAKE) figures
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

# Tests marked `any_backend` do not depend on the backend: they run once, on the first of BACKENDS, and
# beside the others with --jobs.

test: $(BACKENDS:%=test-%) test-any docs

$(BACKENDS:%=test-%): test-%: install
	KERAS_BACKEND=$* $(BIN)/python -m pytest -m "not slow and not any_backend"

test-any: install
	KERAS_BACKEND=$(firstword $(BACKENDS)) $(BIN)/python -m pytest -m "not slow and any_backend"

# Faults provoked in real runs, and what was lost counted: results/drills.csv. Some forty minutes.

drills: export KERAS_BACKEND ?= jax
drills: .venv/development
	PYTHONPATH=$(CURDIR) $(BIN)/python .ci/drills.py

lint: .venv/development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# What others would install: built, looked into, installed into an empty environment and tried.

package: .venv/development
	$(BIN)/python .ci/package.py

format: .venv/development
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv reproduction build dist docs/_build *.egg-info
