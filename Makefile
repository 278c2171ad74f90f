# `make demo` shows what this is for; `make test` checks it. Both set up .venv by themselves.
PYTHON ?= python3
SEED ?= 0
DEMO ?= --out runs/demo
BIN := .venv/bin

.PHONY: demo test lint types clean

demo: .venv/.run
	$(BIN)/uncollapse demo --seed $(SEED) $(DEMO)

test: .venv/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8

lint: .venv/.test
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

types: .venv/.test
	$(BIN)/pyright

clean:
	rm -rf .venv dist runs/demo

.venv/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[report]"
	touch $@

.venv/.test: .venv/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test,dev,tensorboard]"
	touch $@
