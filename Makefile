# make run: climb the ladder on MNIST.  make test: run the tests.  make check: what CI runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-long check lint docs pictures format parity load chaos clean

run: .venv/train
	$(BIN)/convladder compare

# In another order each time; the seed that it ends with gives the same order again: `pytest --randomly-seed=SEED`. Each
# of the two processes computes with one thread, because more would wait for those of the other.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup
test: .venv/dev
	$(PYTEST)

# What takes minutes: a real Ray cluster of two nodes, one of which is killed; all twelve trainings of the article's
# claims; pages of the documentation whose blocks train.
test-long: .venv/dev
	$(PYTEST) -m 'cluster or long' --timeout 1800

# A minute of the server under load; the figures go to docs/benchmarks/load.json.
load: .venv/dev
	$(BIN)/python benchmarks/load.py --output docs/benchmarks

# Kills long commands a thousand times, and looks at what they end with: hours; it goes on with the counts in chaos.json.
chaos: .venv/dev
	$(BIN)/python benchmarks/chaos.py --output docs/benchmarks

check: lint test

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation as a site, docs/_build/index.html; a warning is an error.
docs: .venv/dev
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

# The tutorial's pictures and its notebook, after a change of docs/tutorial.md or of the measurements.
pictures: .venv/dev
	$(BIN)/python docs/pictures.py
	$(BIN)/python docs/tutorial_notebook.py

# Every rung in every format, through the gate.
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
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev,docs]'
	touch $@ .venv/train

clean:
	rm -rf .venv
