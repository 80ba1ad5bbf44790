# The verbs of this repository. Each does its own set-up: a virtual environment in .venv with pinned and hashed requirements.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3 python,$(if $(shell command -v $(p) >/dev/null 2>&1 && $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(p))))
BIN := .venv/bin
DISTRIBUTIONS := schemas services/allocator services/notifier deploy/local
PROJECTS := $(addsuffix /pyproject.toml,$(DISTRIBUTIONS))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
COMPILE = $(BIN)/uv pip compile --quiet $(PROJECTS) --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--no-emit-package backorder-schemas --no-emit-package backorder-allocator --no-emit-package backorder-notifier --no-emit-package backorder-local

.PHONY: demo test check month histories mutations faults faults-matrix faults-outage faults-bugs faults-long hostile bench run clean requirements setup setup-dev
.DELETE_ON_ERROR:

demo: setup ## Replay real purchases through the whole system. make demo ARGS="--lines 5000 --keep"
	@$(BIN)/backorder demo $(ARGS)

run: setup ## The whole stack without data, until Ctrl-C
	@$(BIN)/backorder up $(ARGS)

test: setup-dev ## All tests, on real servers, two files at a time. make test ARGS="-n 0 -k promises" for some, one by one
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: setup-dev ## Lint, types, import contracts, schema compatibility
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m backorder_schemas.export --check

mutations: setup-dev ## Named mistakes in the rules: each must make a test fail
	@$(BIN)/python -m tests.allocator.mutations

histories: setup-dev ## Random histories of everything against the naive model: make histories EXAMPLES=100000
	BACKORDER_EXAMPLES=$(or $(EXAMPLES),20000) $(BIN)/python -m pytest tests/allocator/test_whole_histories.py tests/allocator/test_batches.py

faults: setup-dev ## Breaks services, Kafka, PostgreSQL and the network for 2 minutes under load, and proves that nothing was lost or done twice
	@$(BIN)/python -m tests.faults.campaign $(ARGS)

faults-matrix: setup-dev ## Every fail point: killed, stopped for 45 s with a replacement, raised, cancelled
	@$(BIN)/python -m tests.faults.matrix $(CASES)

faults-outage: setup-dev ## PostgreSQL away for 5 minutes under load
	@$(BIN)/python -m tests.faults.outage

faults-bugs: setup-dev ## Planted bugs: each must be found by the rule that is there for it
	@$(BIN)/python -m tests.faults.bugs

faults-long: setup-dev ## A campaign of an hour, then the other three
	@$(BIN)/python -m tests.faults.campaign --seconds 3000 $(ARGS)
	@$(MAKE) faults-matrix faults-outage faults-bugs

hostile: setup-dev ## Hostile input to both services, at least so many records: make hostile EXAMPLES=100000
	BACKORDER_HOSTILE=$(or $(EXAMPLES),100000) $(BIN)/python -m pytest tests/schemas/test_hostile.py tests/allocator/test_hostile.py \
		tests/allocator/test_hostile_sums.py tests/notifier/test_hostile_input.py

month: setup-dev ## A month of real purchases on a fast clock: every message compared with what happened
	@$(BIN)/python -m tests.month $(ARGS)

bench: setup-dev ## How fast, how late, how flat, how large: every figure beside its reference. make bench ARGS="--quick --only 1,4"
	@$(BIN)/python -m tests.bench $(ARGS)

clean: ## Remove the virtual environment and everything that was built
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: setup-dev ## Resolve requirements/*.txt anew
	$(COMPILE) requirements/run.in --output-file requirements/run.txt --upgrade
	$(COMPILE) requirements/run.in requirements/dev.in --output-file requirements/dev.txt --upgrade

setup: .venv/run.stamp
setup-dev: .venv/dev.stamp

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Backorder needs Python 3.11 or newer: install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "$(PYTHON) is not Python 3.11 or newer: name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "$(PYTHON) could not make a virtual environment (on Debian: install python3-venv)" >&2; exit 2; }

.venv/run.stamp: requirements/run.txt $(PROJECTS) | .venv/bin/python
	@echo "Installing pinned requirements into .venv (the first time downloads about 350 MB)" >&2
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation $(addprefix -e ./,$(DISTRIBUTIONS))
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/run.stamp
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@
