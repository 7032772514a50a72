# make run: climb the ladder on MNIST.  make test: run the tests.  make check: what CI runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-long check lint docs pictures format parity load chaos coverage mutants clean

run: .venv/train
	$(BIN)/convladder compare

test: .venv/dev
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

# What takes minutes: a real Ray cluster of two nodes, one of which is killed; all twelve trainings of the article's
# claims; pages of the documentation whose blocks train.
test-long: .venv/dev
	$(BIN)/pytest -m 'cluster or long' --timeout 1800 --numprocesses 2 --dist loadgroup

# A minute of the server under load; the figures go to docs/benchmarks/load.json.
load: .venv/dev
	$(BIN)/python benchmarks/load.py --output docs/benchmarks

# Kills long commands a thousand times, and looks at what they end with: hours; it goes on with the counts in chaos.json.
chaos: .venv/dev
	$(BIN)/python benchmarks/chaos.py --output docs/benchmarks

# Statements and branches that the tests run, by package; the table goes to docs/testing.md.
coverage: .venv/dev
	$(BIN)/pytest --numprocesses 2 --dist loadgroup --cov --cov-context test --cov-report=
	$(BIN)/python benchmarks/branches.py

# Changes the code in random places, and counts which changes a test notices: hours for many; after make coverage, and
# it goes on with the counts in mutation.json.
mutants: .venv/dev
	$(BIN)/python benchmarks/mutants.py

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
