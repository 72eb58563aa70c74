# Everything a developer runs. `make help` lists it; a bare machine needs Python 3.11 or newer with pip, and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.restante-installed

.DEFAULT_GOAL := help
.PHONY: help setup run test lint protos docs sdk conformance kill-queue bench bench-growth bench-sdk lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP) ## make .venv with everything in requirements/dev.txt and this tree in editable form

$(BIN)/python:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo 'Restante needs Python 3.11 or newer; name one with: make setup PYTHON=/path/to/python3'; exit 1; }
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
	    echo 'This Python cannot make a virtual environment with pip (on Debian: apt-get install python3-venv).'; exit 1; }

$(STAMP): requirements/dev.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## start the demo: all processes on 127.0.0.1, ports from 2025 on, mail for alice, bob and carol
	$(BIN)/restante up --demo --data build/demo --base-port 2000

test: setup ## run all tests, or those in TESTS; the end of the output says what was skipped and why
	$(BIN)/python -m pytest $(TESTS)

lint: setup ## style, types, import contracts, proto rules, stale generated code and documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m protos.generate --check
	$(BIN)/python -m protos.reference --check
	$(BIN)/python -m protos.lint

protos: setup ## generate clients/python/restante/v1 from protos/
	$(BIN)/python -m protos.generate

docs: setup ## write docs/api from the comments in protos/, and docs/restante.1 from the commands' help
	$(BIN)/python -m protos.reference
	$(BIN)/python -m restante_cli.manual docs/restante.1

sdk: setup ## generate the contract's half of every SDK that has a generator, and clients in other languages
	@set -e; for generate in clients/*/generate.sh; do echo "$$generate"; "$$generate"; done
	$(BIN)/python -m protos.others

conformance: setup ## every SDK plays the conformance scenario; prints a table, language by step
	$(BIN)/python -m tests.conformance

kill-queue: setup ## kill processes twelve times beside 100,000 queued recipients of a dead domain, and count every message
	$(BIN)/python -m tests.faults.kill_rounds --rounds 12 --queued 100000

bench: setup ## measure; prints JSON and a table (BENCH="--store sqlite,postgresql" for other options)
	$(BIN)/python -m tests.bench $(BENCH)

bench-growth: setup ## measure how costs grow with messages and mailboxes; prints JSON and a table
	$(BIN)/python -m tests.bench.growth $(BENCH)

bench-sdk: setup ## measure what each SDK adds to bare stubs; prints JSON and a table
	$(BIN)/python -m tests.bench.sdk

lock: setup ## resolve pyproject.toml again into requirements/dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet --upgrade -o requirements/dev.txt
	@! grep -n '://' requirements/dev.txt

clean: ## remove what was built or downloaded
	rm -rf .venv build dist node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
