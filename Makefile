# The README's two commands and their like, and what they need.  Nothing is asked of the
# machine but make, git and a Python; what is missing is named in one line.

PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
# Pythons that pyenv keeps off the path count as there.
export PATH := $(PATH)$(shell printf ':%s' $(HOME)/.pyenv/versions/3.1*/bin)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Some lines are run by root's tests alone: those with clients of other users.
export COVERAGE_FLOOR := $(shell test "$$(id -u)" = 0 && echo 100 || echo 99)
VENV = .venv
PARALLEL = 2
# How long a soak takes, and fuzzing.
MINUTES = 3
# Which modules mutants are made of, where it is not all of them: "policy rules".
MODULES =

.PHONY: demo test docs soak fuzz mutation bench clean

demo: $(VENV)/demo
	@$(VENV)/bin/python docs/examples/demo.py

test: $(VENV)/tox
	@$(VENV)/bin/tox run-parallel --parallel $(PARALLEL) --parallel-no-spinner

docs: $(VENV)/tox
	@$(VENV)/bin/tox run -q -e docs
	@echo 'the documentation: build/docs/index.html'

soak: $(VENV)/demo
	@$(VENV)/bin/python -m tests.soak --minutes $(MINUTES)

fuzz: $(VENV)/fuzz
	@$(VENV)/bin/python -m tests.fuzz --minutes $(MINUTES)

mutation: $(VENV)/tox
	@$(VENV)/bin/tox run -q -e mutation -- $(MODULES)

bench: $(VENV)/bench
	@$(VENV)/bin/python benchmarks/run.py

$(VENV)/bench: $(VENV)/demo benchmarks/requirements.txt
	@$(VENV)/bin/pip install -qq -r benchmarks/requirements.txt
	@touch $@

$(VENV)/fuzz: $(VENV)/demo tests/fuzz/requirements.txt
	@$(VENV)/bin/pip install -qq --only-binary atheris -r tests/fuzz/requirements.txt 2>/dev/null || { \
		echo "make: atheris cannot be had for $$($(VENV)/bin/python -V): make clean, and PYTHON=python3.12 (or 3.11, 3.13)"; exit 1; }
	@touch $@

$(VENV)/demo: $(VENV)/made setup.cfg twisted_peercred/__init__.py
	@$(VENV)/bin/pip install -qq --editable .
	@touch $@

$(VENV)/tox: $(VENV)/made
	@$(VENV)/bin/pip install -qq 'tox>=4.20'
	@touch $@

$(VENV)/made:
	@test -n '$(PYTHON)' || { echo 'make: needs Python 3.10 or newer (Debian: apt-get install python3 python3-venv)'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'make: this Python has no venv (Debian: apt-get install python3-venv)'; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) .tox build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache
