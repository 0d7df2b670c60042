# Two commands set everything up on a machine with Python 3.11+ and make: `make demo` and `make test`.
# PYTHON chooses the interpreter; each keeps an environment of its own under .venv-X.Y.

PYTHON  ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV    ?= .venv-$(VERSION)
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
JOBS    ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)
# The slow tests wait more than they work.
WAITING ?= $(shell expr $(JOBS) + 2)
SECONDS ?= 600
# Hundreds of processes are started here: each would compile again whatever it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-clinic demo-analytics test fast lint format crash soak wheel test-compiled browser fuzz attack audit-interop \
        bench-bank bench-growth bench-start bench-guard bench-connections bench-jobs bench-unit bench-django bench-cache bench-audit bench-analytics \
        lock clean

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements/bootstrap.txt requirements/dev.txt pyproject.toml
	@test -n "$(VERSION)" || { echo "Workhorse needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "setting up $(VENV) with Python $(VERSION) ..."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "python -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $(READY)

demo: $(READY) ## Run the bank on embedded servers with live traffic and its page (ARGS="--serve" keeps it running).
	@cd examples/bank && PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/python -m bank.demo $(ARGS)

demo-clinic: $(READY) ## Run the clinic, a Django app with its admin, through a day of its people (ARGS="--serve").
	@cd examples/clinic && PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/python -m clinic.demo $(ARGS)

demo-analytics: $(READY) ## Bring two million rows of public data in, measure, ask and export them (ARGS="--since 2000").
	@cd examples/names && PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/python -m names.demo $(ARGS)

test: $(READY) ## Run all tests: the fast ones first, then the slow ones.
	@$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow and not crash" $(ARGS)
	@$(BIN)/python -m pytest -q -n $(WAITING) -m "slow and not crash" $(ARGS)
	@$(BIN)/python -m pytest -q -m crash $(ARGS)

fast: $(READY) ## Run the fast tests only.
	@$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow and not crash" $(ARGS)

crash: $(READY) ## Strike the bank, its workers, Postgres and Valkey a hundred times under load.
	@BANK_CRASH_KILLS=100 $(BIN)/python -m pytest -q -m crash $(ARGS)

soak: $(READY) ## Besiege the bank with everything on for an hour or more (ARGS="--minutes 30", "--seed N").
	@PYTHONPATH=examples/bank $(BIN)/python -m tests.crash.soak $(ARGS)

lint: $(READY) ## Check format, style, types and the import arrows.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/basedpyright --pythonpath $(BIN)/python
	@$(BIN)/lint-imports

format: $(READY) ## Format the code.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

browser: $(READY) ## Attack the guard, and look at the API's documents, in a real Chromium (which must be installed).
	@$(BIN)/python -m pytest -q -m browser tests/browser $(ARGS)

fuzz: $(READY) ## Fuzz every parser that reads what a stranger sends, for SECONDS together (600).
	@PYTHONPATH=examples/bank $(BIN)/python -m fuzz --seconds $(SECONDS) $(ARGS)

attack: $(READY) ## Attack the bank with other people's tools and our own (takes ten minutes).
	@PYTHONPATH=examples/bank $(BIN)/python -m attack $(ARGS)

bench-connections: $(READY) ## Time a client beside 10,000 idle and 1,000 slow ones.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m connections $(ARGS)

wheel: $(READY) ## Build the wheels: one of plain Python, and one compiled for this Python (needs a C compiler).
	@rm -rf build dist
	@$(BIN)/python -m pip wheel . --quiet --no-deps --no-build-isolation -w dist
	@rm -rf build
	@WORKHORSE_COMPILE=1 $(BIN)/python -m pip wheel . --quiet --no-deps --no-build-isolation -w dist
	@rm -rf build; ls dist

test-compiled: wheel ## Run the guard's tests on the compiled wheel.
	@mkdir -p build/compiled && $(BIN)/python -m zipfile -e dist/*-cp*.whl build/compiled
	@PYTHONPATH=build/compiled WORKHORSE_TESTED_BUILD=compiled $(BIN)/python -m pytest -q -n $(JOBS) tests/guard tests/test_policy.py tests/telemetry tests/identity/test_known.py tests/state/test_counters_memory.py tests/service -m "not slow" $(ARGS)

bench-guard: $(READY) ## Count what the guard costs beside the libraries that it replaces.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m guard $(ARGS)

audit-interop: $(READY) ## Hold the audit log against Go's own packages, both ways (needs go and golang.org/x/mod, as in Debian).
	@$(BIN)/python -m tests.audit.interop

bench-bank: $(READY) ## Time the bank beside FastAPI, Django, Fastify and bare pgbench.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m bank $(ARGS)

bench-growth: $(READY) ## Time the bank on tables of a million rows and more (ARGS="--rows 1000000 10000000").
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m growth $(ARGS)

bench-start: $(READY) ## Time the import, and the way to the first reply.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m start $(ARGS)

bench-jobs: $(READY) ## Time the jobs engine beside procrastinate, DBOS, PgQueuer and Celery.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m jobs $(ARGS)

bench-unit: $(READY) ## Count and time what a unit costs over an app's own transaction.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m unit $(ARGS)

bench-django: $(READY) ## Time a Django view with Django's own middleware and with Workhorse instead, and count a unit's round trips.
	@$(BIN)/python benchmarks/environment.py
	@benchmarks/.venv/bin/python -m benchmarks.django $(ARGS)

bench-cache: $(READY) ## Time the cache beside aiocache and cashews.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m cache $(ARGS)

bench-audit: $(READY) ## Time audited requests, sealing, verifying, proofs, sealed fields, and the export and erasure of a person.
	@$(BIN)/python benchmarks/environment.py
	@benchmarks/.venv/bin/python -m benchmarks.audit $(ARGS)

bench-analytics: $(READY) ## Time tables out and in beside an ORM, COPY and ADBC, measures beside their events, and units beside a heavy query.
	@$(BIN)/python benchmarks/environment.py
	@cd benchmarks && .venv/bin/python -m analytics exports $(ARGS)
	@cd benchmarks && .venv/bin/python -m analytics imports $(ARGS)
	@cd benchmarks && .venv/bin/python -m analytics measures $(ARGS)
	@cd benchmarks && .venv/bin/python -m analytics beside $(ARGS)

lock: $(READY) ## Renew the locked requirements (all hashed, no registry named).
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade pyproject.toml --extra embedded --extra uvicorn --extra hypercorn --extra reload --extra redis --extra identity --extra docs --extra sqlalchemy --extra encryption --extra audit --extra cron --extra analytics --extra django --extra trio --extra privacy --extra aws requirements/dev.in -o requirements/dev.txt
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade benchmarks/requirements.in -o benchmarks/requirements.txt
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 --upgrade fuzz/requirements.in -o fuzz/requirements.txt
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.12 --upgrade attack/requirements.in -o attack/requirements.txt

clean: ## Stop the embedded servers, and remove environments and caches (the embedded servers' data stays).
	@if [ -x $(BIN)/workhorse ]; then $(BIN)/workhorse services stop || true; fi
	@rm -rf .venv-* benchmarks/.venv fuzz/.venv attack/.venv .fuzz attack/report.json .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
