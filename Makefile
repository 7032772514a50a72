# make run: climb the ladder on MNIST.  make test: run the tests.  make check: what CI runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-long test-lowest check lint docs pictures format parity load chaos fuzz coverage mutants figures pins dist sbom clean

run: .venv/train
	$(BIN)/convladder compare

# In another order each time; the seed that it ends with gives the same order again: `pytest --randomly-seed=SEED`. Each
# of the two processes computes with one thread, because more would wait for those of the other.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup
test: .venv/dev
	$(PYTEST)

# What takes more than a second or two: what trains, starts servers, browsers or databases, is killed, or runs the blocks of
# the documentation; and real Ray clusters of two nodes, one of which is killed.
test-long: .venv/dev
	$(PYTEST) -m 'cluster or long' --timeout 1800

# The server under load, hostile uploads among it, three minutes alone and three behind nginx; writes docs/benchmarks/load.json.
load: .venv/dev
	$(BIN)/python benchmarks/load.py --output docs/benchmarks

# Kills long commands a thousand times, and looks at what they end with: hours; it goes on with the counts in chaos.json.
chaos: .venv/dev
	$(BIN)/python benchmarks/chaos.py --output docs/benchmarks

# A million hostile inputs: hours; it goes on with the counts in fuzz.json. What it finds is kept in finds/.
fuzz: .venv/dev
	$(INSTALL) --require-hashes --requirement requirements/fuzz.txt
	$(BIN)/python benchmarks/fuzz.py --output docs/benchmarks

# Statements and branches that the tests run, those on clusters among them, by package; the table goes to docs/testing.md.
coverage: .venv/dev
	$(PYTEST) -m 'not cluster' --timeout 1800 --cov --cov-context test --cov-report=
	$(PYTEST) -m cluster --timeout 1800 --cov --cov-append --cov-context test --cov-report=
	$(BIN)/python benchmarks/branches.py

# Changes the code in random places, and counts which changes a test notices: hours for many; after make coverage, and
# it goes on with the counts in mutation.json.
mutants: .venv/dev
	$(BIN)/python benchmarks/mutants.py

# All figures of docs/benchmarks.md on this code: hours, and it says how many; CIFAR10= names its folder of pictures.
figures: .venv/dev
	$(BIN)/python benchmarks/figures.py $(if $(CIFAR10),--cifar10 $(CIFAR10))

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

# The tests with the lowest versions that pyproject.toml allows.
test-lowest: .venv/dev
	.ci/uv venv --quiet --clear .venv/lowest
	.ci/uv pip install --quiet --python .venv/lowest --resolution lowest-direct --editable '.[train,dev,docs]'
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/lowest/bin/pytest --numprocesses 2 --dist loadgroup $(TESTS)

# requirements/*.txt: exact versions with the SHA-256 of all their files, for every platform and Python with wheels. A
# version stays until pyproject.toml excludes it. `make pins UPGRADE=--upgrade` takes the newest.
PIN := .ci/uv pip compile --quiet --universal --python-version 3.11.5 --fork-strategy fewest \
  --prerelease if-necessary --generate-hashes --no-annotate
pins: export UV_CUSTOM_COMPILE_COMMAND := make pins
pins: .venv/dev
	$(PIN) pyproject.toml --extra train --extra dev --extra docs --output-file requirements/dev.txt $(UPGRADE)
	$(PIN) pyproject.toml --extra train --constraint requirements/dev.txt --output-file requirements/train.txt
	$(PIN) pyproject.toml --constraint requirements/dev.txt --output-file requirements/base.txt
	$(PIN) pyproject.toml --extra fuzz --constraint requirements/dev.txt --output-file requirements/fuzz.txt
	printf 'hatchling\neditables\n' | $(PIN) - --constraint requirements/dev.txt --output-file requirements/build.txt
	@# The marker of all, because with it pip would install nothing on another Python, and not say so.
	sed -i.bak "s/ ; python_full_version < '3.14' and sys_platform != 'win32'//; s/python_full_version < '3.14' and //" requirements/*.txt
	rm requirements/*.bak

# The sdist, and the wheel from it. The same files give the same bytes.
dist: .venv/dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation

# What an installation of the base, and of [train], consists of: CycloneDX files in dist/.
sbom: dist
	for part in base train; do \
	  .ci/uv venv --quiet --clear .venv/$$part-alone && \
	  .ci/uv pip install --quiet --python .venv/$$part-alone --require-hashes --requirement requirements/$$part.txt && \
	  .ci/uv pip install --quiet --python .venv/$$part-alone --no-deps --no-index --find-links dist convladder && \
	  $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	    --output-file dist/convladder-$$part.cdx.json .venv/$$part-alone/bin/python || exit 1; \
	done

# A file in .venv marks what is installed, so that a second call installs nothing. pip refuses a file whose SHA-256 is not
# in requirements/. No build is isolated, because pip would fetch its tools without hashes.
INSTALL = $(BIN)/python -m pip install --quiet
.venv/train: pyproject.toml requirements/train.txt requirements/build.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --require-hashes --requirement requirements/train.txt --requirement requirements/build.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

.venv/dev: pyproject.toml requirements/dev.txt requirements/build.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --require-hashes --requirement requirements/dev.txt --requirement requirements/build.txt
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@ .venv/train

clean:
	rm -rf .venv
