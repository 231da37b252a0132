# gatesync: `make help` says what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= auto
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet

.DEFAULT_GOAL := help
.PHONY: help install demo test coverage test-fast lint format types contracts long fuzz bench lock clean

help: ## show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## install everything into .venv, from the lock file

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "gatesync needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## show a real cluster at work, about a minute (DB=postgresql or mariadb, STORE=git, MECHANISM=rsync or shared)
	@$(BIN)/python scripts/demo --database $(or $(DB),sqlite) --store $(or $(STORE),database) --mechanism $(or $(MECHANISM),broker)

test: $(STAMP) lint types contracts ## lint, types, the contract, all tests (DB=postgresql: one database only; TREES=DIR: your trees, too)
	GATESYNC_TEST_DB="$(DB)" GATESYNC_TEST_TREES="$(TREES)" $(BIN)/python -m pytest -n $(WORKERS)

coverage: $(STAMP) ## all tests once more, and which branches they reached
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered

test-fast: $(STAMP) ## the quick tests, without a database server, in less than a minute
	GATESYNC_TEST_BUDGET=0.2 $(BIN)/python -m pytest -n $(WORKERS) -m fast --hypothesis-profile fast

lint: $(STAMP) ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

contracts: $(STAMP) ## imports point down the house only
	$(BIN)/lint-imports

long: $(STAMP) ## the random tests (kills, state machines) with 20 times the budget
	GATESYNC_TEST_BUDGET=20 $(BIN)/python -m pytest -n $(WORKERS) --timeout 3600 \
		tests/convergence tests/demo tests/stores tests/promises/test_sql_kills.py \
		tests/promises/test_gateway_kills.py tests/events/test_random_faults.py \
		tests/engines/envoy/test_engine.py tests/promises/test_envoy_redeploys.py \
		tests/mirroring tests/promises/test_share_kills.py tests/promises/test_share_processes.py \
		tests/promises/test_rsync_runners.py tests/promises/test_rsync_kills.py

fuzz: $(STAMP) ## the decoders and the OpenAPI pages with 60 times the budget, from other seeds each time
	GATESYNC_TEST_BUDGET=60 GATESYNC_FUZZ_SEED="$$(date +%s)" $(BIN)/python -m pytest -n $(WORKERS) \
		--timeout 3600 tests/fuzz

bench: $(STAMP) ## run the benchmarks, one JSON line each (NAME=propagation for one)
	@$(BIN)/python benchmarks/run.py $(NAME)

lock: $(STAMP) ## write requirements/*.txt anew from pyproject.toml
	$(BIN)/python -m pip install --quiet uv==0.13.9
	$(COMPILE) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --extra all --constraints requirements/dev.txt --output-file requirements/run.txt
	echo hatchling | $(COMPILE) - --constraints requirements/dev.txt --output-file requirements/build.txt

clean: ## remove what was installed and built
	rm -rf $(VENV) build dist gatesync-data .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
