# `make demo` and `make test` need Python 3.11 or later and nothing else: the first run creates .venv.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?= -n auto

# Small matrices everywhere: one thread each is faster than several that wait for each other.
export OMP_NUM_THREADS ?= 1

# Trained models and images for some of the benchmarks; see benchmarks/fixed_points.
DATA ?= ../shared/data

.PHONY: help setup demo test test-fast bench bench-fixed-points bench-tasks lint format types imports kernel obligations build-check docs clean

help:
	@echo "make demo         train, prove, re-check and plot a small model (under 3 minutes after the downloads)"
	@echo "make test         the whole test suite;  make test-fast leaves out the slow tests"
	@echo "make bench        the benchmarks: table, JSON and figures in out/ (a small part of bench-fixed-points)"
	@echo "make bench-fixed-points    fixed points under uncertain inputs, all of it (hours); DATA=DIR for its models"
	@echo "make bench-tasks  trains, certifies and measures all tasks (hours, resumable); BENCH_ARGS=--quick for minutes"
	@echo "make docs         the documentation site, in out/site"
	@echo "make obligations  a second opinion on the shipped certificates, by z3 and cvc5"
	@echo "make lint types imports kernel build-check    what continuous integration runs besides the tests"
	@echo "make clean        removes what was built, and .venv"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "expected Python 3.11 or later, found none;" \
		"install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(PY) -m pip install --disable-pip-version-check --no-deps auto-LiRPA==0.3
	touch $@

demo: $(INSTALLED)
	$(PY) examples/demo.py

test: $(INSTALLED)
	$(PY) -m pytest $(PYTEST_ARGS)

test-fast: $(INSTALLED)
	$(PY) -m pytest -m "not slow" $(PYTEST_ARGS)

bench: $(INSTALLED)
	$(PY) benchmarks/run.py
	$(PY) -m benchmarks.fixed_points --quick $(if $(wildcard $(DATA)/mondeq),--data $(DATA))

bench-fixed-points: $(INSTALLED)
	$(PY) -m benchmarks.fixed_points $(if $(wildcard $(DATA)/mondeq),--data $(DATA)) $(BENCH_ARGS)

bench-tasks: $(INSTALLED)
	$(PY) -m benchmarks.tasks --workers 2 $(BENCH_ARGS)

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(INSTALLED)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(INSTALLED)
	$(PY) -m mypy

imports: $(INSTALLED)
	$(VENV)/bin/lint-imports

kernel: $(INSTALLED)
	$(PY) -I -S .ci/replay.py

obligations: $(INSTALLED)
	rm -rf out/obligations
	$(PY) -m trm_verify.cli obligations certificates/good --out out/obligations --check

build-check: $(INSTALLED)
	$(PY) -I .ci/build_check.py

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
