# Hone. `make` alone lists what there is.
# Also for the make 3.81 of macOS: no .ONESHELL.
SHELL := bash
.DEFAULT_GOAL := help

# The first that runs (a name on the PATH may be a shim for a version that is not installed) and is new enough.
ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3; do \
  "$$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$name"; break; }; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= hone-data
PORT ?= 8000

# Where torch comes from. `auto`: the CPU builds when this machine has no NVIDIA GPU and that index can be reached,
# else whatever pip finds. An address: that index. Empty: whatever pip finds.
TORCH_INDEX ?= auto
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

# Bytecode is compiled when a module is first imported: compiling all of torch at once takes longer than using it.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt

.PHONY: help
help: ## List the targets
	@echo "Hone. Targets:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1@\2/' | awk -F@ '{printf "%-18s%s\n", $$1, $$2}'
	@echo
	@echo "Variables: PYTHON=… VENV=$(VENV) DATA=$(DATA) PORT=$(PORT) TORCH_INDEX=$(TORCH_INDEX)"

.PHONY: demo
demo: install ## Install, then start everything with a demo project on http://127.0.0.1:8000
	@exec $(BIN)/hone up --demo --data $(DATA) --port $(PORT)

.PHONY: up
up: install ## Install, then start everything
	@exec $(BIN)/hone up --data $(DATA) --port $(PORT)

.PHONY: install
install: $(VENV)/.installed ## Make .venv with the pinned set that Hone runs on

.PHONY: dev
dev: $(VENV)/.installed-dev ## Make .venv with what the tests and checks need on top

$(VENV)/.python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "make: no Python 3.11 or newer with its venv module was found: install one (on Debian and Ubuntu," >&2; \
	  echo "      apt install python3 python3-venv), or name yours: make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.python constraints.txt
	@torch=$$(grep -E '^torch==' constraints.txt); index='$(TORCH_INDEX)'; \
	if [ "$$index" = auto ]; then \
	  index=; \
	  if [ "$$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1 && \
	    $(BIN)/python -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' $(TORCH_CPU_INDEX)/torch/ 2>/dev/null; \
	  then index=$(TORCH_CPU_INDEX); fi; \
	fi; \
	echo "installing $$torch$${index:+ from $$index}"; \
	$(PIP) --no-deps $${index:+--index-url "$$index"} "$$torch"
	@touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing Hone and what it runs on (a minute or two)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "installing Hone, what it runs on, and what its tests need (a minute or two)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

.PHONY: check
check: dev ## ruff, mypy strict, import contracts, template lint, migration drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/djlint templates --lint --quiet
	$(BIN)/python -m pytest -q tests/unit/test_migrations.py

.PHONY: test
test: dev ## The whole suite, with real servers and a real browser
	$(BIN)/python tests/browser/ensure_chromium.py
	$(BIN)/python -m pytest -q -n 2 --dist loadscope

.PHONY: test-gpu
test-gpu: dev ## What only a CUDA device can tell: the trainer's passes there
	$(BIN)/python -m pytest -q tests/gpu

.PHONY: messages
messages: dev ## Bring the catalogues of translations up to date, and say what is still to translate
	$(BIN)/python -m app.language.messages

.PHONY: clean
clean: ## Remove .venv and every cache; data directories stay
	rm -rf $(VENV) build ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
