# Targets for work on rdx_fast; "make" lists them. In an active environment.
.DEFAULT_GOAL := help
TESTS ?= tests

# The theme's note on the future of MkDocs is not of this site.
MKDOCS = NO_MKDOCS_2_WARNING=1 python -m mkdocs

.PHONY: help install format lint types test one slow ci docs docs-serve demo bench figures build-kernels

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## Install the checkout with all that the tests need; again after changes in csrc
	RDX_FAST_NATIVE=1 python -m pip install -c constraints.txt -e ".[dev]"

format: ## Format, and mend what the linter can
	ruff check --fix .
	ruff format .

lint: ## Linter and formatter, as CI runs them
	ruff check .
	ruff format --check .

types: ## Type checks
	mypy -p rdx_fast -p support
	mypy docs/hooks.py examples/*.py

test: ## What runs by default
	python -m pytest

one: ## One file or test, in one process: make one TESTS=tests/kernels/test_cosine_map.py
	python -m pytest -n0 $(TESTS)

slow: ## The slow tests
	python -m pytest -m slow

ci: ## All that CI does, in a fresh environment
	.ci/run

docs: ## Build the documentation into site/; a warning is an error
	$(MKDOCS) build --strict

docs-serve: ## Serve the documentation while you write
	$(MKDOCS) serve

demo: ## Train, export and score on photographs of solar cells
	rdx-fast demo

bench: ## Kernels and Detector under pytest-benchmark
	python -m pytest -n0 bench/suite.py --benchmark-only

figures: ## Write the tables of README and docs from bench/results
	python -m rdx_fast.bench.pages

build-kernels: ## Build the GPU's kernels ahead of time
	python -m rdx_fast.kernels.aot
