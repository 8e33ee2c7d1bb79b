# The environment is made once, from requirements.lock, in .venv.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/src
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	--custom-compile-command "make lock"

.PHONY: help quickstart survey experiments test lint types bench bench-gpu setup lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: setup ## the whole study on the embedded digits, to reports/digits/
	python -m tradeoff reproduce digits
	dvc repro --single-item chapter index
	@echo "The reports: reports/index.html; the chapter: reports/chapter.es.tex, chapter.en.tex"

survey: setup ## all defenses on one network, on digits, to reports/survey/
	python studies/survey.py

experiments: setup ## what experiments changed (ONLY=dtrades-vgg16: of all means these)
	@dvc exp show --csv --only-changed --hide-failed --drop \
		'^(code|data|models|ledgers|plots|src|stages|params.yaml$$|report|study|State|Executor|Created|metrics/(?!means))' \
		| ONLY=$(ONLY) python -m tradeoff.cluster.experiments

test: setup .venv/cluster ## run the tests
	python -m pytest -n auto --dist worksteal

lint: setup ## style
	ruff check
	ruff format --check

types: setup ## types
	mypy

bench: setup ## what fits a CPU, in under ten minutes: targets and results
	python benchmarks/cpu.py

bench-gpu: ## the GPU part; needs only torch and numpy (PYTHON=... names the interpreter)
	$(PYTHON) benchmarks/gpu.py

setup: .venv/installed ## make the environment

# Python compiles what it imports; compiling all of it beforehand takes most of a minute.
.venv/installed: requirements.lock
	@echo "Making .venv from requirements.lock; this takes a few minutes and about 6 GB."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# Ray and submitit are no part of the quickstart; the tests run them.
.venv/cluster: .venv/installed requirements-cluster.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-cluster.lock
	@touch $@

lock: ## renew the locks from pyproject.toml (needs uv)
	$(COMPILE) --group dev pyproject.toml -o requirements.lock
	$(COMPILE) --extra ray --extra slurm --constraint requirements.lock \
		pyproject.toml -o requirements-cluster.lock

clean: ## remove what can be made again, except results in git
	rm -rf .venv models ledgers data/*.safetensors
