# Everything a person or CI does here. `make` alone lists it.
# DEMO: `make demo REPO=~/src/app` audits another repository; CSV=time.csv a time log; ANSWER=publish answers the decision;
#       OUT=dir takes the report; CRASH=1 kills the server in the middle.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev build demo test test-rust test-python test-typescript test-go lint lint-rust lint-python lint-proto lint-shell \
        fmt bench bench-setup bench-peers bench-plugins bench-size clean

VENV := .venv/bin
# Where cargo puts the program.
BINARY := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)/debug/consort
PYTHON_SOURCES := python plugins tests/bench tests/models
DEMO_FLAGS := $(if $(REPO),--repo '$(REPO)') $(if $(CSV),--csv '$(CSV)') $(if $(ANSWER),--answer '$(ANSWER)') \
              $(if $(OUT),--out '$(OUT)') $(if $(CRASH),--crash) --post

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

# Always the whole workspace: building a part of it would choose other features, and build everything a second time.
demo: setup ## audit a git repository with agents and plugins in two languages, leave a report, and post its figures
	cargo build --workspace
	$(BINARY) demo $(DEMO_FLAGS)

test: test-rust test-python test-typescript test-go ## run every test; what needs Node or Go says so where they are missing

lint: lint-rust lint-python lint-proto lint-shell ## run every check that needs no server

fmt: setup-dev ## format Rust, Python and protos in place
	cargo fmt --all
	cargo fmt --manifest-path tests/bench/shape/Cargo.toml
	$(VENV)/ruff format --config python/pyproject.toml $(PYTHON_SOURCES)
	$(VENV)/ruff check --config python/pyproject.toml --fix-only $(PYTHON_SOURCES)
	$(VENV)/buf format --write

bench: ## measure the engine on this machine (BENCH="--steps 10 --concurrency 64" chooses the work)
	cargo build --release -p consort
	target/release/consort bench engine $(BENCH)

bench-setup: setup ## build for release, and install what the engine is measured beside
	cargo build --release --workspace
	tests/bench/setup.sh || echo "what is missing is left out"

bench-peers: setup ## measure the engine beside its peers, for the better part of an hour (BENCH="--rounds 1 --seconds 2")
	PYTHONPATH=tests $(VENV)/python -m bench durable $(BENCH)

bench-plugins: setup ## measure a plugin's calls beside go-plugin and MCP over stdio (BENCH="--rounds 1 --seconds 1")
	PYTHONPATH=tests $(VENV)/python -m bench plugins $(BENCH)

bench-size: setup ## measure what size costs (BENCH="--events 100000 --only growth")
	PYTHONPATH=tests $(VENV)/python -m bench size $(BENCH)

build: setup ## compile the workspace
	cargo build --workspace

clean: ## remove what was built and installed here
	cargo clean
	rm -rf .venv consort-report

# What is missing is installed, or named; quick when nothing is.
setup:
	@deploy/setup.sh run

setup-dev:
	@deploy/setup.sh dev

# consort-pyhost holds the Python that .venv is of, if one was named.
ifdef PYTHON
export PYO3_PYTHON ?= $(PYTHON)
endif

# Tests start the real binaries, so these are built first.
test-rust: setup-dev
	cargo build --workspace
	cargo test --workspace --no-fail-fast

test-python: setup-dev
	$(VENV)/pytest -c python/pyproject.toml --rootdir . python/tests plugins tests/bench tests/models

lint-rust: setup-dev
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/bench/shape/Cargo.toml
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; \
	else echo "cargo-deny is not installed; the architecture test holds licences and dependencies"; fi

# The binary is the one that test-rust has built.
test-typescript: setup-dev
	@if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; then \
	    echo "Node 20 or newer is missing: the TypeScript SDK is not tested"; exit 0; \
	fi; \
	set -e; cd plugins/sdk-typescript; npm ci --silent --no-fund --no-audit; \
	CONSORT_BINARY='$(abspath $(BINARY))' BUF='$(CURDIR)/$(VENV)/buf' npm test --silent; \
	'$(abspath $(BINARY))' plugin test examples/words

test-go: setup-dev
	@if ! command -v go >/dev/null; then echo "Go is missing: the Go SDK is not tested"; exit 0; fi; \
	set -eo pipefail; cd plugins/sdk-go; go vet ./...; \
	CONSORT_BINARY='$(abspath $(BINARY))' BUF='$(CURDIR)/$(VENV)/buf' go test -v ./... | grep -v '^=== '; \
	(cd examples/conformance && go build .); '$(abspath $(BINARY))' plugin test examples/conformance

lint-python: setup-dev
	$(VENV)/ruff check --config python/pyproject.toml $(PYTHON_SOURCES)
	$(VENV)/ruff format --config python/pyproject.toml --check $(PYTHON_SOURCES)
	$(VENV)/mypy --config-file python/pyproject.toml
	@# One at a time: mypy cannot hold two modules named `main`.
	for main in plugins/*/main.py; do $(VENV)/mypy --config-file python/pyproject.toml $$main || exit 1; done

lint-proto: setup-dev
	$(VENV)/buf lint
	$(VENV)/buf format --diff --exit-code
	@.ci/breaking $(VENV)/buf

lint-shell: setup-dev
	$(VENV)/shellcheck deploy/*.sh tests/bench/*.sh .ci/run .ci/breaking
