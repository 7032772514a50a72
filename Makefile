# make run: climb the ladder on MNIST.  make test: run the tests.  make check: what CI runs.
# make parity: every rung in every format through the gate.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check lint format parity clean

run: .venv/train
	$(BIN)/convladder compare

test: .venv/dev
	$(BIN)/pytest --numprocesses 2

check: lint test

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

parity: .venv/dev
	$(BIN)/python benchmarks/parity.py

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A file in .venv marks what is installed, so that a second call installs nothing.
.venv/train: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train]'
	touch $@

.venv/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@ .venv/train

clean:
	rm -rf .venv
