# Everything runs in .venv, which is made from the hash-pinned constraints/ and needs nothing but python3 (3.11 to 3.13).
PYTHON ?= python3
WORKERS ?= 3
BIN := .venv/bin
UV := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help demo test cluster cluster-down lint format generate verify bench bench-cluster tools constraints clean

# Servers and pipelines of the tests work in memory where there is room: a slow disk doubles their time.
memory = if test "$$(df --output=avail -k /dev/shm 2> /dev/null | tail -n 1)" -gt 8000000 2> /dev/null; then export TMPDIR=/dev/shm; fi

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Every step, scorer and command is a process that would compile these modules anew where Python writes no bytecode.
compile = $(BIN)/python -m compileall -q operator/levada

demo: .venv/.demo ## Run examples/flights on this machine, from raw files to a served score
	@$(compile); $(BIN)/python examples/demo.py

# Built before the tests and not by them: on a new machine it takes longer than any test may.
API = etcd kube-apiserver kube-controller-manager kubectl helm kstatus source-controller kustomize-controller

test: lint ## Run every check and every test
	@$(BIN)/python tools/build.py $(API) > /dev/null || echo "tests with an API server are skipped: it cannot be built here"
	@$(compile); $(memory); $(BIN)/pytest -n $(WORKERS) --dist loadgroup
	@$(memory); $(BIN)/python -m tools.cluster run $(BIN)/pytest -m cluster -n 0 tests/e2e/cluster

cluster: .venv/.dev ## Start a real Kubernetes cluster with stores and KServe on this machine (root on Debian)
	@$(BIN)/python -m tools.cluster up

cluster-down: .venv/.dev ## Remove that cluster, and nothing else
	@$(BIN)/python -m tools.cluster down

lint: .venv/.dev ## Check style, types and the layers between packages
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/lint-imports --no-cache > .venv/imports.log 2>&1 || { cat .venv/imports.log; exit 1; }
	@$(BIN)/mypy

format: .venv/.dev ## Format the sources
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet

generate: .venv/.dev ## Write the files that are made from the sources (CRDs, catalogue of events, parts of the chart)
	@$(BIN)/python -m levada.generate
	@$(BIN)/python -m tools.chart

verify: generate ## Generate anew, and fail if that leaves the tree dirty
	@changed=$$(git status --porcelain -- crds docs charts); test -z "$$changed" || { echo "$$changed"; \
		echo "verify: these generated files differ from what is committed: commit what 'make generate' writes"; exit 1; }

bench: .venv/.dev ## Measure against hand-written twins; writes benchmarks/results.md
	@$(memory); $(BIN)/python -m benchmarks

bench-cluster: .venv/.dev ## Measure on the real cluster of 'make cluster' (root on Debian); writes benchmarks/results.md
	@$(BIN)/python -m tools.cluster run $(BIN)/python -m benchmarks cluster.pipeline cluster.many

tools: .venv/.dev ## Build the Go programs of the tests and of the cluster into the cache (once)
	@$(BIN)/python tools/build.py

constraints: .venv/.uv ## Resolve the dependencies of pyproject.toml anew, with hashes and for all Pythons
	@UV=$(UV) tools/constraints.sh

clean: ## Remove what was made in the checkout (not the cache of built programs)
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist

.venv/.uv: constraints/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Levada needs Python 3.11, 3.12 or 3.13: name one with 'make PYTHON=/path/to/python3 …'"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: install its venv package ('apt-get install python3-venv' on Debian)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r constraints/uv.txt
	@touch $@

# $(call install,constraints file): what is pinned, then Levada itself, editable.
install = $(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(1) && \
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .

.venv/.demo: .venv/.uv constraints/demo.txt pyproject.toml
	@echo "Installing the pinned packages into .venv (once)"
	@$(call install,constraints/demo.txt)
	@touch $@

.venv/.dev: .venv/.uv constraints/dev.txt pyproject.toml
	@echo "Installing the pinned packages into .venv (once)"
	@$(call install,constraints/dev.txt)
	@touch $@ .venv/.demo
