# Every target does its own set-up into .venv/ first. Needs Python 3.11 or newer and a package index.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
ARGS ?=
.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench chaos docs lock wheel image manifests clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## the environment and the command .venv/bin/prisoner-to-nomis
	@echo "ready: $(BIN)/prisoner-to-nomis --help"

demo: $(VENV)/.installed ## the whole system against an embedded world (ARGS="--prisoners 500 …")
	@$(BIN)/prisoner-to-nomis demo $(ARGS)

test: lint ## the static checks and the whole test suite
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

lint: $(VENV)/.tested ## format, lint, types, direction of imports, generated documents
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >.lint-imports.log || { cat .lint-imports.log; exit 1; }
	@$(BIN)/python -m sync.catalogue --check doc/events.md
	@$(BIN)/python -m jobs.reference --check

format: $(VENV)/.tested ## put the code into the common form
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

docs: $(VENV)/.tested ## write the generated documents again (events, settings, commands)
	@$(BIN)/python -m sync.catalogue --write doc/events.md
	@$(BIN)/python -m jobs.reference --write

bench: $(VENV)/.benched ## the benchmarks, as ratios of one run
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(VENV)/.tested ## a thousand creates through crashes, lost answers and outages
	@$(BIN)/python -m benchmarks.chaos $(ARGS)

wheel: $(VENV)/.tested ## the wheel, into dist/
	@$(BIN)/python -m build --wheel --outdir dist . >/dev/null && ls dist/*.whl

image: ## the container image, with buildah or docker
	@if command -v buildah >/dev/null; then buildah bud --tag prisoner-to-nomis . ; else docker build --tag prisoner-to-nomis . ; fi

manifests: ## the Kubernetes manifests of every overlay, rendered to the screen
	@for overlay in cronjobs/overlays/*; do echo "--- # $$overlay"; kubectl kustomize $$overlay; done

lock: $(VENV)/.tested ## resolve the dependencies again into requirements/
	@$(BIN)/pip install --quiet uv
	@for name in runtime sandbox dev bench; do \
	  extra=$$( [ $$name = runtime ] || echo "--extra $$name" ); \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    --no-emit-find-links --no-annotate $$extra --no-emit-package prisoner-to-nomis pyproject.toml -o requirements/$$name.txt; \
	done

clean: ## remove everything the targets made
	@rm -rf $(VENV) dist build demo-out reports-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .lint-imports.log

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is older"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements/sandbox.txt | $(VENV)/bin/python
	@echo "setting up $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sandbox.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.tested: requirements/dev.txt $(VENV)/.installed
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.benched: requirements/bench.txt $(VENV)/.tested
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
