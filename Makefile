# `make demo` and `make test` work on a machine with Python 3.11 or newer and nothing else.
#
#   make demo            environment, installation, demo; results in demo-output/
#   make test            environment, installation, all tests (PYTEST_ARGS="..." for pytest)
#   make install         environment and installation only
#   make lint            style checks
#   make clean           remove what the above have made
#
# Settings:
#   PYTHON=python3.12    the interpreter that makes the environment (default: the first that is new enough)
#   VENV=.venv           folder of the environment
#   TORCH="..."          arguments of pip for PyTorch. On Linux, PyTorch comes with CUDA (some GB);
#                        without a GPU, a tenth of that does:
#                        make demo TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

SHELL := /bin/sh
VENV ?= .venv
TORCH ?= torch==2.13.0
PYTHON ?=
PYTEST_ARGS ?=
OUT ?= demo-output

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq

# Several names exist that do not run (shims), or run something old: each is asked.
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python

.PHONY: demo test install lint clean help
help:
	@sed -n 's/^#   //p' Makefile | head -n 5

demo: $(VENV)/.installed-demo
	@$(BIN)/python -m lam.demo --out $(OUT)

# One thread per test process: with more, they wait for each other.
test: $(VENV)/.installed-test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 $(PYTEST_ARGS)

install: $(VENV)/.installed-demo

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check .

clean:
	rm -rf $(VENV) demo-output .pytest_cache .ruff_cache lam.egg-info

# Stamps: what is installed is not installed again, unless the requirements change.
$(VENV)/.created:
	@chosen="$(PYTHON)"; \
	if [ -z "$$chosen" ]; then \
	  for name in $(CANDIDATES); do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then chosen=$$name; break; fi; \
	  done; \
	fi; \
	if [ -z "$$chosen" ]; then \
	  echo "lam needs Python 3.11 or newer, and none was found. Install it, or name it: make demo PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! "$$chosen" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  echo "'$$chosen' does not run or is older than Python 3.11, which lam needs." >&2; exit 1; \
	fi; \
	if ! "$$chosen" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  echo "'$$chosen' cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	echo "Making the environment $(VENV) with $$("$$chosen" --version)"; \
	"$$chosen" -m venv --clear "$(VENV)"
	@touch $@

$(VENV)/.torch: $(VENV)/.created
	@echo "Installing PyTorch ($(TORCH)); this takes a minute or more"
	@$(PIP) $(TORCH)
	@touch $@

$(VENV)/.installed-%: $(VENV)/.torch pyproject.toml
	@echo "Installing lam with what '$*' needs"
	@$(PIP) --editable ".[$*]"
	@touch $@
