# make demo: the main job, end to end.  make test, make lint: what continuous integration runs.
PYTHON ?= python3
VENV ?= .venv
# Processes that tests run in, each with one thread: the files of tests are dealt out among them.
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: help install demo test lint format serve clean
.DEFAULT_GOAL := help

help:  ## Show these targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: $(VENV)/.train  ## Make .venv with everything that training, evaluation and serving need

demo: $(VENV)/.train  ## Train on simulated hospital A, evaluate on B and C, write a report
	$(BIN)/medsharp demo

serve: $(VENV)/.train  ## Serve the bundle in models/ on 127.0.0.1:7860
	$(BIN)/medsharp serve

test: $(VENV)/.dev  ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: $(VENV)/.dev  ## Run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## Let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what was built, but no data, run or model
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "medsharp needs Python 3.11, 3.12 or 3.13; say which with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Exact tested versions come from constraints.txt; pyproject.toml holds the ranges.
$(VENV)/.train: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing PyTorch and the rest into $(VENV): about 6 GB, some minutes the first time"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,weights,dicom]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing PyTorch, the rest and the test tools into $(VENV): about 6 GB, some minutes the first time"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
