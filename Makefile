# The environment is made once, from requirements.lock, in .venv.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPATH := $(CURDIR)/src

.PHONY: help quickstart test lint types setup lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: setup ## the whole study on the embedded digits, to reports/digits/
	python -m tradeoff.cluster.lanes digits
	dvc repro --single-item chapter index
	@echo "The reports: reports/index.html; the chapter: reports/chapter.es.tex, chapter.en.tex"

experiments: setup ## what experiments changed, without their hundreds of files
	@dvc exp show --only-changed --no-pager \
		--drop '^(data|models|ledgers|metrics/[^m]|plots|src|stages|report)'

test: setup ## run the tests
	python -m pytest -n auto

lint: setup ## style
	ruff check
	ruff format --check

types: setup ## types
	mypy

setup: .venv/installed ## make the environment

.venv/installed: requirements.lock
	@echo "Making .venv from requirements.lock; this takes a few minutes and about 6 GB."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

lock: ## renew requirements.lock from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
		--custom-compile-command "make lock" --group dev pyproject.toml -o requirements.lock

clean: ## remove what can be made again, except results in git
	rm -rf .venv models ledgers data/*.safetensors
