# demo, test, check, bench, format. Everything lives in .venv, made by the first target that needs it.
#   make test TESTS=tests/vhd ARGS="-x -n 0"      one directory, one process
#   make demo REMOTE=s3                           the demo on an object store; REMOTE=s3://KEY:SECRET@host/bucket/dir: on yours
#   make demo REMOTE=nfs                          on an NFS server of its own (as root); REMOTE=nfs://host/export: on yours
#   make bench ROWS="merge chain" QUICK=1 JSON=1  some rows, small, one JSON object a line
#   make test PYTHON=/usr/bin/python3.12          another interpreter (remove .venv first)

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
TESTS ?= tests
ARGS ?= -n auto -q
ROWS ?=
REMOTE ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-check test check format bench man clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     a simulated pool, backups under a workload, a crash, a restore, every byte compared;"
	@echo "              on a terminal the service goes on then, with its status page, until Ctrl-C (demo-check: it does not)"
	@echo "make test     all tests"
	@echo "make check    ruff, mypy --strict, import-linter"
	@echo "make format   ruff format and the safe fixes"
	@echo "make bench    speed and memory against the tools of this machine (JSON=1: one object a line)"
	@echo "make man      the manual pages, into build/man"
	@echo "make clean    remove what these made"

demo: $(if $(filter s3,$(REMOTE)),$(VENV)/.test,$(VENV)/.demo)
	@$(BIN)/xobackup demo $(if $(REMOTE),--remote '$(REMOTE)',--look)

demo-check: $(VENV)/.demo
	@$(BIN)/xobackup demo

# Hundreds of processes are started by tests: none has to compile what another one did.
test: $(VENV)/.test
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest $(ARGS) $(TESTS)

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.demo
	@$(BIN)/python -m bench $(ROWS)

man: $(VENV)/.demo
	@$(BIN)/xobackup manual build/man

clean:
	rm -rf $(VENV) .bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer found: apt-get install python3 python3-venv, or PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		v=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$(PYTHON) has no venv module: apt-get install python$$v-venv (Debian, Ubuntu)" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON)" >&2
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

# Each stamp is an editable install with what its target needs; a change of pyproject.toml repeats it.
$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "installing xobackup into $(VENV)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.made
	@echo "installing xobackup[test] into $(VENV)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.check: pyproject.toml | $(VENV)/.made
	@echo "installing xobackup[test,lint] into $(VENV)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $@ $(VENV)/.test $(VENV)/.demo
