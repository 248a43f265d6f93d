# Everything a person or CI does with this checkout. Needs Python >= 3.11 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SIDECAR_BIN := .venv-sidecar/bin

.PHONY: run run-server run-sidecar test test-slow check bench bench-quick clean

run: $(VENV)/.ready  ## this machine's sidecar and server in the foreground; Ctrl-C ends both
	@BIN=$(BIN) exec sh tools/run.sh

run-server: $(VENV)/.ready  ## the server alone
	@exec $(BIN)/machines-server serve

run-sidecar: .venv-sidecar/.ready  ## the sidecar alone, with nothing but its own few packages
	@exec $(SIDECAR_BIN)/python -m sidecar

test: $(VENV)/.ready-dev  ## the whole test suite
	$(BIN)/python -W error -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.ready-dev  ## the tests that take minutes: hosts cut off, faults of our own, a soak
	$(BIN)/python -W error -m pytest -m slow $(PYTEST_ARGS)

check: $(VENV)/.ready-dev  ## format, lint, types, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory test

bench: $(VENV)/.ready  ## the benchmarks, beside the peers that are installed; BENCH=history for one alone
	@$(BIN)/python -m bench $(BENCH)

bench-quick: $(VENV)/.ready  ## the same with small fleets and one round each, in less than 90 s
	@$(BIN)/python -m bench --quick $(BENCH)

clean:  ## the environments and caches; never var/ nor machines/
	rm -rf $(VENV) .venv-sidecar build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: $(VENV)/bin/python setup.cfg pyproject.toml requirements.txt sidecar/requirements.txt constraints.txt
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-sidecar/.ready: sidecar/requirements.txt constraints.txt
	$(PYTHON) -m venv .venv-sidecar
	$(SIDECAR_BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: --constraint constraints.txt --requirement sidecar/requirements.txt
	@touch $@
