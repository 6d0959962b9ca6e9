# make run    the demo site on http://127.0.0.1:8000/  (PORT=, DATA_DIR=, ADDRESS=)
# make test   everything that must be true, in at most 20 minutes
# `make help` lists the rest.

PORT ?= 8000
DATA_DIR ?= var
VENV ?= .venv
# Where `make test` may install what is missing (chromium, node): root on Debian.
APT_GET := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get)

BIN := $(VENV)/bin
PYTHON_FILES := manage.py project resumable_uploads tests $(wildcard benchmarks)
JS_TESTS := $(shell find tests/js -name '*test*.*js' 2>/dev/null)
# Two processors have time for three: browsers and servers are mostly waited for.
PYTEST := $(BIN)/python -m pytest -n 3
# Real servers and a real browser on a busy machine may be late. What failed is run once
# more, by itself; to fail twice is to fail, and both times are in the output.
AGAIN := $(PYTEST) --last-failed --last-failed-no-failures none

export PORT
export DATA_DIR

.DEFAULT_GOAL := help
.PHONY: help run worker beat test check lint audit format types migrations js sqlite \
	postgres faults load fault-points browser clients npm node messages bench bench-peers clean

help:
	@echo "make run      serve the demo on http://127.0.0.1:$(PORT)/ (PORT=, DATA_DIR=)"
	@echo "make worker   a Celery worker for it; needs REDIS_URL"
	@echo "make beat     Celery's clock for it; needs REDIS_URL"
	@echo "make test     lint, types, and all tests on SQLite and PostgreSQL"
	@echo "make faults   uploads while everything fails (SECONDS=, SEED=, DATABASE=)"
	@echo "make load     many clients at once (SECONDS=, CLIENTS=, IDLE=, SEED=, DATABASE=)"
	@echo "make fault-points  each step of each verb broken off (DATABASE=)"
	@echo "make bench    what uploads cost, beside yardsticks (QUICK=1, BENCH='--item ...')"
	@echo "make bench-peers  install servers of others for it"
	@echo "make lint     ruff, bandit, and whether the code is formatted"
	@echo "make audit    known weaknesses of the pinned packages"
	@echo "make format   format the code"
	@echo "make messages collect the sentences to be translated, and compile them"
	@echo "make clean    remove the environment and caches; never DATA_DIR"

# --- Serving ------------------------------------------------------------------------

run: $(VENV)/.run
	@command -v npm >/dev/null && $(MAKE) --no-print-directory $(SHOWN) \
		|| echo "npm is missing: the demo does without the pages of other clients."
	@$(BIN)/python -m project.prepare
	@echo "Serving on http://127.0.0.1:$(PORT)/  -  Ctrl-C stops"
	@exec $(BIN)/python -m gunicorn -c project/gunicorn.conf.py

worker: $(VENV)/.run
	@exec $(BIN)/python -m celery -A project worker --loglevel INFO

beat: $(VENV)/.run
	@mkdir -p "$$DATA_DIR"
	@exec $(BIN)/python -m celery -A project beat --loglevel INFO \
		--schedule "$$DATA_DIR/beat-schedule"

# --- Environments -------------------------------------------------------------------

INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet
NO_PACKAGES = { echo; echo "The packages could not be installed (see above)." \
	"Is the network there, or an index in PIP_INDEX_URL?"; exit 1; } >&2

# The first Python that can really make an environment: some cannot (Debian's without
# python3-venv), some are too old.
$(BIN)/python:
	@for python in python3.11 python3.12 python3.13 python3; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
			&& $$python -m venv --clear $(VENV) 2>/dev/null && exit 0; \
	done; \
	rm -rf $(VENV); \
	echo "This needs Python 3.11 or newer with its venv module" \
		"(on Debian: apt-get install python3.11-venv)." >&2; exit 1

$(VENV)/.run: requirements-run.txt | $(BIN)/python
	@echo "Installing what the site needs ..."
	@$(INSTALL) -r requirements-run.txt || $(NO_PACKAGES)
	@touch $@

$(VENV)/.test: requirements.txt requirements-run.txt | $(BIN)/python
	@echo "Installing what the tests need ..."
	@$(INSTALL) -r requirements.txt || $(NO_PACKAGES)
	@touch $@ $(VENV)/.run

# --- Tests --------------------------------------------------------------------------

test:
	@begun=$$(date +%s); $(MAKE) --no-print-directory check; status=$$?; \
	seconds=$$(($$(date +%s) - begun)); \
	echo "make test: $$([ $$status = 0 ] && echo passed || echo FAILED)" \
		"after $$((seconds / 60)) min $$((seconds % 60)) s"; exit $$status

check: lint types migrations js browser clients sqlite postgres

lint: $(VENV)/.test
	$(BIN)/ruff check $(PYTHON_FILES)
	$(BIN)/ruff format --check $(PYTHON_FILES)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive resumable_uploads project

# Known weaknesses of the packages; where that cannot be asked, it is said.
audit: $(VENV)/.test
	@$(BIN)/python -m tests.audit

format: $(VENV)/.test
	$(BIN)/ruff check --fix $(PYTHON_FILES)
	$(BIN)/ruff format $(PYTHON_FILES)

types: $(VENV)/.test
	$(BIN)/mypy

migrations: $(VENV)/.test
	$(BIN)/python manage.py makemigrations --check --dry-run --settings tests.settings

js: node clients
	@if command -v node >/dev/null; then echo node --test tests/js; \
		node --test --test-reporter=spec $(JS_TESTS); fi
	@if [ -x $(TSC) ]; then echo $(TSC); $(TSC) -p jsconfig.json; \
		else $(call missing,typescript); fi

sqlite: $(VENV)/.test
	DATABASE=sqlite $(PYTEST) || DATABASE=sqlite $(AGAIN)

# Only the tests that use the test database: the others have just passed.
postgres: $(VENV)/.test
	DATABASE=postgres $(PYTEST) || DATABASE=postgres $(AGAIN)

# --- Faults: by hand, for as long as one likes ----------------------------------------

SECONDS ?= 300
SEED ?= 1
CLIENTS ?= $(if $(filter load,$(MAKECMDGOALS)),500,6)
IDLE ?= 10000
SILENT ?= 1000
DATABASE ?= sqlite

faults: $(VENV)/.test
	FAULTS_SECONDS=$(SECONDS) FAULTS_SEED=$(SEED) FAULTS_CLIENTS=$(CLIENTS) \
		DATABASE=sqlite $(BIN)/python -m pytest -s tests/faults/test_storm.py \
		-o faulthandler_timeout=0 \
		-k on_$(DATABASE)

# Clients of all protocols on the site as it is in production; 500 clients are many.
load: $(VENV)/.test
	LOAD_SECONDS=$(SECONDS) LOAD_SEED=$(SEED) LOAD_CLIENTS=$(CLIENTS) LOAD_IDLE=$(IDLE) \
		LOAD_SILENT=$(SILENT) LOAD_DATABASE=$(DATABASE) DATABASE=sqlite \
		$(BIN)/python -m pytest -s tests/faults/test_load.py -o faulthandler_timeout=0

# Every step on every ground, and a thousand sequences that are new each time.
fault-points: $(VENV)/.test
	FAULTS_THOROUGH=1 MODEL_EXAMPLES=1000 DATABASE=$(DATABASE) \
		$(PYTEST) tests/faults --ignore tests/faults/test_storm.py \
		--ignore tests/faults/test_load.py

# --- Benchmarks: by hand, on a quiet machine ----------------------------------------

bench: $(VENV)/.test
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(BENCH)

bench-peers: npm $(VENV)/.test
	cd benchmarks && npm ci --no-audit --no-fund --silent
	$(BIN)/python -m venv benchmarks/.venv
	benchmarks/.venv/bin/pip install --quiet -r benchmarks/requirements.txt

# What pip cannot bring: installed where that is allowed; else the tests that need it
# are left out, except in CI, where leaving out is failing.
browser:
	@command -v chromium >/dev/null || [ -n "$$CHROMIUM" ] \
		|| { $(call install,chromium); } || { $(call missing,chromium); }

# The clients of others, which the demo shows and the tests drive, come from npm; what
# only the tests need as well.
SHOWN := node_modules/.package-lock.json
OTHERS := node_modules/.with-those-for-tests
TSC := node_modules/.bin/tsc

clients: npm
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(OTHERS); fi

$(OTHERS): package.json package-lock.json
	@echo "Installing the clients of others ..."
	@npm ci --no-audit --no-fund --silent || $(NO_PACKAGES)
	@touch $@

$(SHOWN): package.json package-lock.json
	@echo "Installing the clients of others ..."
	@npm ci --omit=dev --no-audit --no-fund --silent || $(NO_PACKAGES)
	@touch $@

npm: node
	@command -v npm >/dev/null || { $(call install,npm); } || { $(call missing,npm); }

node:
	@command -v node >/dev/null || { $(call install,nodejs); } || { $(call missing,node); }

install = [ -n "$(APT_GET)" ] && echo "Installing Debian's $(1) ..." \
	&& { apt-get install -y -qq $(1) >/dev/null \
	|| { apt-get update -qq && apt-get install -y -qq $(1) >/dev/null; }; }
missing = echo "$(1) is missing: the tests that need it are left out." >&2; [ -z "$$CI" ]

LOCALES := de es fr zh_Hans

messages: $(VENV)/.test
	@command -v msgfmt >/dev/null || { $(call install,gettext); }
	cd resumable_uploads && $(abspath $(BIN))/python ../manage.py makemessages \
		--settings tests.settings $(LOCALES:%=--locale %) --no-location --no-wrap --no-obsolete
	cd resumable_uploads && $(abspath $(BIN))/python ../manage.py compilemessages \
		--settings tests.settings

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find project resumable_uploads tests -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "What the demo keeps is still in $(DATA_DIR)/"
