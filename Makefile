# Every target first sets up what it needs in .venv/. This takes Python 3.11 or newer and a package index.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
# One more worker than there are cores: many tests wait for messages to be redelivered or for services to recover.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench chaos docs lock wheel image manifests clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## set up the environment, with the command .venv/bin/prisoner-to-nomis
	@echo "ready: $(BIN)/prisoner-to-nomis --help"

demo: $(VENV)/.installed ## run the whole system against a sandbox (ARGS="--prisoners 500 …")
	@$(BIN)/prisoner-to-nomis demo $(ARGS)

# Bytecode is written even if the environment forbids it: without it each worker spends seconds rewriting asserts.
test: lint ## run the static checks and every test
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/.tested ## check format, style, types, direction of imports and generated documents
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >.lint-imports.log || { cat .lint-imports.log; exit 1; }
	@$(BIN)/python -m sync.domains.event_table --check doc/events.md
	@$(BIN)/python -m jobs.cli.reference --check

format: $(VENV)/.tested ## format the code
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

docs: $(VENV)/.tested ## regenerate the documents that are made from the code
	@$(BIN)/python -m sync.domains.event_table --write doc/events.md
	@$(BIN)/python -m jobs.cli.reference --write

bench: $(VENV)/.benched ## run the benchmarks and print their figures
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.tested ## run a thousand creates through crashes and outages, and a backlog with two processes
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

wheel: $(VENV)/.tested ## build the wheel into dist/
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . && ls dist/*.whl

image: ## build the container image with docker or buildah (ARGS="--build-arg LOCK=sandbox" includes the demo)
	@if command -v docker >/dev/null; then docker build --tag prisoner-to-nomis $(ARGS) . ; \
	 else buildah bud --format docker --tag prisoner-to-nomis $(ARGS) . ; fi

manifests: ## print the rendered Kubernetes manifests of every overlay
	@for overlay in cronjobs/overlays/*; do echo "--- # $$overlay"; kubectl kustomize $$overlay; done

# The benchmarks' lock comes first and constrains the others, so that the same versions are measured, tested and run.
lock: $(VENV)/.tested ## resolve the dependencies into requirements/ (ARGS=--upgrade for the newest versions)
	@$(INSTALL) uv
	@set -e; compile="$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --no-emit-package prisoner-to-nomis $(ARGS)"; \
	printf 'hatchling>=1.25\neditables\n' | $$compile - -o requirements/build.txt; \
	$$compile pyproject.toml --extra bench -o requirements/bench.txt; \
	$$compile pyproject.toml --extra sandbox -c requirements/bench.txt -o requirements/sandbox.txt; \
	$$compile pyproject.toml --extra dev -c requirements/bench.txt -o requirements/dev.txt; \
	$$compile pyproject.toml -c requirements/bench.txt -o requirements/runtime.txt

clean: ## remove everything that the targets created
	@rm -rf $(VENV) dist build demo-out reports-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .lint-imports.log

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements/build.txt requirements/sandbox.txt | $(VENV)/bin/python
	@echo "setting up $(VENV) (once)"
	@$(INSTALL) --require-hashes -r requirements/build.txt -r requirements/sandbox.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q jobs reports sync sandbox
	@touch $@

$(VENV)/.tested: requirements/dev.txt $(VENV)/.installed
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.benched: requirements/bench.txt $(VENV)/.tested
	@$(INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@
