# Every target sets up what it needs. PYTHON may name another interpreter (>= 3.11).
PYTHON ?= python3
VENV ?= .venv
# Debian 13's Python, for `make test-debian`: python3.13 there, a pyenv's elsewhere
# (make test-debian PYTHON313=~/.pyenv/versions/3.13.0/bin/python).
PYTHON313 ?= python3.13
VENV_DEBIAN ?= .venv-debian
BIN = $(VENV)/bin
RUN = PYTHONPATH=. $(BIN)/python
SEEDS ?= 1000
# Most tests wait for real processes and clocks: more workers than cores pay.
WORKERS ?= 4
# --lf: only what failed in the run before.
AGAIN ?=
RESULTS = build/test-results.json

.PHONY: help demo test test-debian test-all bench check chaos chaos-real conformance deb test-arm64 apt-repo clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/.ready: setup.py packaging/requirements-dev.txt
	$(PYTHON) packaging/make-venv $(VENV)
	@touch $@

demo: $(BIN)/.ready ## one machine, whole chain: coordinator, worker, agent, one job
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(RUN) examples/demo.py

test: $(BIN)/.ready ## every test that needs no engine, systemd or browser
	@mkdir -p build
	$(RUN) -m pytest -rs $(AGAIN) -n $(WORKERS) --dist loadfile --results=$(RESULTS)

$(VENV_DEBIAN)/bin/.ready: setup.py packaging/requirements-debian13.txt
	$(PYTHON313) packaging/make-venv $(VENV_DEBIAN) packaging/requirements-debian13.txt
	@touch $@

test-debian: $(VENV_DEBIAN)/bin/.ready ## make test on Debian 13's versions (Python 3.13)
	PYTHONPATH=. $(VENV_DEBIAN)/bin/python -m pytest -rs $(AGAIN) -n $(WORKERS) --dist loadfile

test-all: $(BIN)/.ready ## everything, on real engines, systemd and browser (root, Debian)
	@mkdir -p build
	packaging/install-real-parts
	$(RUN) -m pytest -rs $(AGAIN) --all --results=$(RESULTS) $(if $(CI),--no-skips) \
	  -m "engine or systemd or browser or debian or minutes"

check: $(BIN)/.ready ## ruff, format, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/.ready ## measure; prints a table, writes bench/results.json
	$(RUN) -m bench

chaos: $(BIN)/.ready ## pure machines under SEEDS random fault schedules
	$(RUN) -m tests.chaos.memory --seeds $(SEEDS)

chaos-real: $(BIN)/.ready ## real processes under SEEDS random fault schedules
	$(RUN) -m tests.chaos.real --seeds $(SEEDS)

conformance: ## docs/conformance.md from the last test run
	$(PYTHON) docs/conformance.py $(RESULTS)

deb: ## Debian packages into build/deb
	packaging/build-deb

test-arm64: deb ## the .deb in an emulated arm64 Debian 13 (root; minutes)
	packaging/test-arm64

apt-repo: deb ## a signed apt repository into build/apt
	packaging/apt-repo

clean: ## what make made
	rm -rf build dist $(VENV) *.egg-info
