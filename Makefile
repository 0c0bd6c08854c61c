# `make` lists the targets. Each one installs what it needs on its first call (scripts/setup.sh).

PYTHON_BIN := .venv/bin/python
SOURCES := itercli tests scripts
# Not ?=: a PYTEST_ARGS from the environment would change what a test run means.
PYTEST_ARGS :=

.DEFAULT_GOAL := help
.PHONY: help demo test lint typecheck format pages clean setup setup-dev setup-test
# Targets given together run in the order given, also under -j.
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## Train the tiny RTL model for a few iterations on this machine's CPU
	@.venv/bin/iter run recipe=itertl

# Side by side, each on one thread. Two at a time of the slow ones, as some hold a real model in an engine.
test: setup-test ## Run all tests (PYTEST_ARGS="-m 'not slow'" or anything else: one plain pytest with it)
ifeq ($(strip $(PYTEST_ARGS)),)
	@OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -m "not slow" -n auto --dist loadscope; quick=$$?; \
	OMP_NUM_THREADS=1 $(PYTHON_BIN) -m pytest -m slow -n 2 --dist loadscope && exit $$quick
else
	@$(PYTHON_BIN) -m pytest $(PYTEST_ARGS)
endif

lint: setup-dev ## Check style, format and the recipes' pages
	@$(PYTHON_BIN) -m ruff check $(SOURCES)
	@$(PYTHON_BIN) -m ruff format --check $(SOURCES)
	@$(PYTHON_BIN) scripts/recipe_pages.py --check

typecheck: setup-dev ## Check types
	@$(PYTHON_BIN) -m mypy

format: setup-dev ## Format the code and fix what can be fixed
	@$(PYTHON_BIN) -m ruff format $(SOURCES)
	@$(PYTHON_BIN) -m ruff check --fix $(SOURCES)

pages: setup-dev ## Write docs/recipes anew from the recipes
	@$(PYTHON_BIN) scripts/recipe_pages.py

clean: ## Remove the environment, tools and caches; runs/ stays
	@rm -rf .venv .tools .pytest_cache .ruff_cache .mypy_cache build dist *.egg-info
	@find itercli tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh --dev

setup-test:
	@scripts/setup.sh --dev --vllm
