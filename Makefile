# Everything a person or CI does with this checkout. Needs Python >= 3.11 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SIDECAR_BIN := .venv-sidecar/bin
VENDOR := machines_server/web/static/vendor

.PHONY: run run-server run-sidecar test test-slow check bench bench-quick screenshots vendor clean

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

screenshots: $(VENV)/.ready-dev  ## the pictures of the page in docs/, with a fleet made up for them
	@$(BIN)/python -m tools.screenshots

vendor:  ## the chart library of the dashboard from its package again; fails if its files are not those of SHA256SUMS
	@set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; mkdir "$$new/files"; \
	npm pack --silent --pack-destination "$$new" uplot@1.6.32 >"$$new/name"; \
	tar -xzf "$$new"/uplot-1.6.32.tgz -C "$$new"; \
	cp "$$new"/package/dist/uPlot.iife.min.js "$$new"/package/dist/uPlot.min.css "$$new/files"; \
	cp "$$new"/package/LICENSE "$$new/files/uPlot.LICENSE"; chmod 644 "$$new"/files/*; \
	(cd "$$new/files" && sha256sum uPlot.LICENSE uPlot.iife.min.js uPlot.min.css >SHA256SUMS); \
	diff $(VENDOR)/SHA256SUMS "$$new/files/SHA256SUMS"; cp "$$new"/files/* $(VENDOR)/

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
