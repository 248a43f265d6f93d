# Everything that people or CI do with this checkout. Needs Python >= 3.11 with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SIDECAR_BIN := .venv-sidecar/bin
VENDOR := machines_server/web/static/vendor
LOCKS := $(wildcard locks/*.txt)
SBOM ?= build/sbom

# The user's pip settings say where packages come from; the lock files say what is installed.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_BINARY PIP_NO_DEPS
ENVIRONMENT := sh tools/environment.sh
INSTALL := $(ENVIRONMENT) install
export PIP_USER := 0
export PIP_CONSTRAINT := /dev/null
export PIP_REQUIRE_HASHES := 0

# Compiling every module again in each process of a test run would take a third of its time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run run-server run-sidecar test test-tools test-cluster test-slow fuzz check javascript bench bench-quick screenshots vendor lock audit clean

run: $(VENV)/.ready  ## Run this machine's sidecar and server in the foreground; Ctrl-C ends both
	@BIN=$(BIN) exec sh tools/run.sh

run-server: $(VENV)/.ready  ## Run the server alone
	@exec $(BIN)/machines-server serve

run-sidecar: .venv-sidecar/.ready$(if $(filter-out off,$(SIDECAR_AUTH_MODE)),-auth)  ## Run the sidecar alone, with only the few packages that it needs
	@exec $(SIDECAR_BIN)/python -m sidecar

test: tools-in-ci $(VENV)/.ready-dev  ## Run the tests in five processes, or some in one: PYTEST_ARGS='-n 0 -k name'
	$(BIN)/python -W error -m pytest -n 5 --dist loadscope $(PYTEST_ARGS)

test-tools:  ## Install the programs that the tests need (Debian, Ubuntu)
	@sh tools/test_tools.sh

tools-in-ci: FORCE
	-@if [ "$$CI" = true ] && [ "$$(id -u)" -eq 0 ]; then sh tools/test_tools.sh; fi

test-cluster: $(VENV)/.ready-dev  ## Run the tests of the API over PostgreSQL and VictoriaMetrics, as in a cluster
	$(BIN)/python -W error -m pytest --cluster -n 3 -k 'not database' \
		tests/test_end_to_end.py tests/test_routing.py tests/test_leases.py $(PYTEST_ARGS)

test-slow: $(VENV)/.ready-dev  ## Run the tests that take minutes: unreachable hosts, faults of the server, a soak
	$(BIN)/python -W error -m pytest -m slow $(PYTEST_ARGS)

fuzz: $(VENV)/.ready-dev  ## Send arbitrary bytes to each target for 20 s, or for MACHINES_TEST_FUZZ_S seconds
	$(BIN)/python -W error -m pytest tests/fuzz -m fuzz -s $(PYTEST_ARGS)

check: $(VENV)/.ready-dev  ## Check format, lint and types, and run the tests, as CI does
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory javascript
	@$(MAKE) --no-print-directory test

javascript: tools-in-ci  ## Check format and lint of the page's JavaScript; skipped without node or npm
	@sh tools/javascript.sh

bench: $(VENV)/.ready  ## Run the benchmarks, including those of other programs if installed; BENCH=history runs one
	@$(BIN)/python -m bench $(BENCH)

bench-quick: $(VENV)/.ready  ## Run the benchmarks with small fleets and one round each, in less than 90 s
	@$(BIN)/python -m bench --quick $(BENCH)

screenshots: $(VENV)/.ready-dev  ## Take the screenshots in docs/ with a demonstration fleet
	@$(BIN)/python -m tools.screenshots

vendor:  ## Download the page's chart library again; fails if its files differ from SHA256SUMS
	@set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; mkdir "$$new/files"; \
	npm pack --silent --pack-destination "$$new" uplot@1.6.32 >"$$new/name"; \
	tar -xzf "$$new"/uplot-1.6.32.tgz -C "$$new"; \
	cp "$$new"/package/dist/uPlot.iife.min.js "$$new"/package/dist/uPlot.min.css "$$new/files"; \
	cp "$$new"/package/LICENSE "$$new/files/uPlot.LICENSE"; chmod 644 "$$new"/files/*; \
	(cd "$$new/files" && sha256sum uPlot.LICENSE uPlot.iife.min.js uPlot.min.css >SHA256SUMS); \
	diff $(VENDOR)/SHA256SUMS "$$new/files/SHA256SUMS"; cp "$$new"/files/* $(VENDOR)/

lock: $(VENV)/.ready-dev  ## Write the lock files from the requirements; LOCK_ARGS=--upgrade takes the newest versions
	@$(BIN)/python -m tools.lock $(LOCK_ARGS)

audit: $(VENV)/.ready-dev  ## List the locked packages (CycloneDX) and fail if one has a known vulnerability
	@mkdir -p $(SBOM)
	@for lock in $(LOCKS); do \
		$(BIN)/cyclonedx-py requirements --no-validate --output-file $(SBOM)/$$(basename $$lock .txt).json $$lock || exit; done
	@$(BIN)/pip-audit --progress-spinner off --disable-pip --vulnerability-service osv $(AUDIT_ARGS) $(LOCKS:%=--requirement %)

clean:  ## Delete the environments and caches, never var/ or machines/
	rm -rf $(VENV) .venv-sidecar node_modules build machines_client/.build *.egg-info machines_client/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.made .venv-sidecar/.made: FORCE
	@PYTHON='$(PYTHON)' $(ENVIRONMENT) make $(@D)

FORCE:

$(VENV)/.ready: setup.cfg pyproject.toml requirements.txt sidecar/requirements.txt locks/build.txt locks/server.txt $(VENV)/.made
	$(INSTALL) $(@D) --require-hashes --only-binary :all: --requirement locks/build.txt
	$(INSTALL) $(@D) --require-hashes --no-build-isolation --requirement locks/server.txt
	$(INSTALL) $(@D) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready locks/dev.txt
	$(INSTALL) $(@D) --require-hashes --no-build-isolation --requirement locks/dev.txt
	@touch $@

.venv-sidecar/.ready: locks/sidecar.txt .venv-sidecar/.made
	$(INSTALL) $(@D) --require-hashes --only-binary :all: --requirement locks/sidecar.txt
	@touch $@

.venv-sidecar/.ready-auth: locks/sidecar-auth.txt .venv-sidecar/.ready
	$(INSTALL) $(@D) --require-hashes --only-binary :all: --requirement locks/sidecar-auth.txt
	@touch $@
