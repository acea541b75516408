# Everything that people and CI do here. `make help` lists it. Needs Python 3.11 or later and make; the rest it fetches.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt
# Of pytest, for the whole suite: most tests with real services wait. Each has services of its own, and needs up to 2 GB.
PROCESSES ?= 2
# A process that dies ends the run, and its test is named: one that took its place would wait for ever (pytest-xdist #1327).
PYTEST_PROCESSES := -n $(PROCESSES) --max-worker-restart=0
# Tests start hundreds of Python processes: where the machine says that none may write what it compiled, each one compiles
# all that it imports, which doubles what the suite costs.
export PYTHONDONTWRITEBYTECODE :=
FAST_TESTS := tests/unit tests/property tests/contract tests/simulation

.DEFAULT_GOAL := check
.PHONY: check format lint types imports fast-tests test demo bench chaos system-packages services help clean

check: $(VENV)/.test-ready ## What must hold before a commit: format, lint, types, imports, fast tests (the default)
	@$(MAKE) --no-print-directory -j2 fast-tests lint types imports

lint: $(VENV)/.test-ready ## Format and lint, without changing a file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.test-ready ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.test-ready ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.test-ready ## The direction of imports between the rooms
	$(BIN)/lint-imports --no-logo

fast-tests: $(VENV)/.test-ready ## Tests that need no service
	$(BIN)/python -m pytest -q -m "not integration and not chaos" $(wildcard $(FAST_TESTS))

test: system-packages $(VENV)/.test-ready ## Everything, with real services; sets up the machine by itself where it is root on Debian or Ubuntu
	@$(MAKE) --no-print-directory -j2 services types lint imports
	$(BIN)/python -m pytest -q $(PYTEST_PROCESSES) tests

demo: $(VENV)/.demo-ready ## See it work, with nothing but Python: two minutes, or until Ctrl-C
	$(BIN)/headgate demo

bench: $(VENV)/.test-ready services ## One table of speed and memory
	$(BIN)/python -m tests.bench

chaos: $(VENV)/.test-ready services ## Faults under load, a verdict line each; SCALE=night, CASES=1,3 and SEED=7 say more
	$(BIN)/python -m tests.chaos --lanes $(or $(LANES),4) --scale $(or $(SCALE),small) $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

system-packages: ## Install what the tests' services need (or say the command)
	$(PYTHON) -P tests/services/system.py

services: $(VENV)/.test-ready ## Fetch the jars of Kafka, Connect, Debezium and Apicurio into the user's cache
	$(BIN)/python -m tests.services

clean: ## Remove the virtual environment and the caches of tools
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# One environment for all; the demo's is the light part of the tests'.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
		echo "This Python has no ensurepip. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo-ready: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test-ready: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[test,demo]'
	@touch $@ $(VENV)/.demo-ready
