# `make dev` runs Fairway on this machine; `make test` checks everything that needs no cluster.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CLUSTER ?= local
BENCH ?=
# test_laws.py plants faults in classes, which compiled ones do not allow.
TESTED_COMPILED := tests/fairway_dataplane --ignore=tests/fairway_dataplane/fuzz/test_laws.py

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST)

$(INSTALLED): requirements/constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Fairway needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ echo "python3 cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Make .venv and install into it.

.PHONY: dev
dev: $(INSTALLED) ## Serve examples/quickstart on this machine.
	$(BIN)/fairway dev -f examples/quickstart

.PHONY: test
test: $(INSTALLED) ## Everything that needs no cluster: lint, types, contracts, generated files, tests.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.generated --check
	$(BIN)/pytest
	@built=$$($(BIN)/python -m bench.compiled --optional) && { test -z "$$built" || \
		{ echo "once more, compiled:"; PYTHONPATH="$$built" $(BIN)/pytest $(TESTED_COMPILED); }; }

.PHONY: compiled
compiled: $(INSTALLED) ## Build with the request path compiled, as released; prints a PYTHONPATH.
	@$(BIN)/python -m bench.compiled

.PHONY: cluster
cluster: $(INSTALLED) ## Start a real cluster (CLUSTER=local, kind or existing).
	CLUSTER=$(CLUSTER) $(BIN)/python -m e2e.run up

.PHONY: e2e
e2e: $(INSTALLED) ## Chart checks, image, helm install and the end-to-end suite on a real cluster.
	CLUSTER=$(CLUSTER) $(BIN)/python -m e2e.run test

.PHONY: cluster-down
cluster-down: $(INSTALLED) ## Stop the cluster and leave nothing behind.
	CLUSTER=$(CLUSTER) $(BIN)/python -m e2e.run down

.PHONY: image
image: $(INSTALLED) ## Build the container image.
	$(BIN)/python -m e2e.run image

.PHONY: bench
bench: $(INSTALLED) ## Measure Fairway beside its peers; options in BENCH="...".
	$(BIN)/python -m bench.run $(BENCH)

.PHONY: bench-gate
bench-gate: $(INSTALLED) ## Fail if HEAD is slower than its merge base; options in BENCH="...".
	$(BIN)/python -m bench.gate $(BENCH)

.PHONY: docs
docs: $(INSTALLED) ## Write the generated files: CRD, values schema, settings and metrics reference.
	$(BIN)/python -m tests.generated

.PHONY: format
format: $(INSTALLED) ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links

.PHONY: lock
lock: ## Pin the dependencies again, with hashes (needs uv and cargo).
	$(LOCK) --extra dev --extra operator --extra dataplane pyproject.toml \
		-o requirements/constraints.txt
	$(LOCK) --extra operator --extra dataplane -c requirements/constraints.txt pyproject.toml \
		-o requirements/image.txt
	printf 'cython\nhatchling\nsetuptools\n' | $(LOCK) -c requirements/constraints.txt - -o requirements/build.txt
	cd dataplane/rustls && rm -f Cargo.lock && cargo generate-lockfile && grep -v '^source = ' Cargo.lock > crates.lock
