# Everything here works on a fresh clone with python3 >= 3.11 and make: each target makes the
# part of .venv that it needs, once (stamp files).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq -c constraints.txt
INSTANCE ?= data/digits/instance.json
DATA ?= data

# The solver and the tests bring their own parallelism; nested threads only slow them down.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-realtime everything wheel docs long lint format bench data clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 16

demo: $(VENV)/.networks  ## solve a shipped instance and run what comes out (INSTANCE=FILE)
	rm -rf out/demo
	$(BIN)/python solve.py $(INSTANCE) --out out/demo
	@echo
	$(BIN)/code-opt evaluate $(INSTANCE) out/demo/*.exact.json out/demo/*.code.json \
		--data $(DATA) --seconds 3 --out out/demo/evaluation || [ $$? -eq 1 ]  # 1: not confirmed

test: $(VENV)/.dev $(VENV)/.networks  ## all tests but the long ones
	$(BIN)/python -m pytest -m "not long and not realtime" -n 2 --dist loadfile $(ARGS)

test-realtime: $(VENV)/.dev $(VENV)/.networks  ## what only this machine's clock tells; nothing else should run
	$(BIN)/python -m pytest -m realtime $(ARGS)

everything: $(VENV)/.dev $(VENV)/.bench $(VENV)/.docs $(VENV)/.networks  ## install all that the tests can use

wheel: $(VENV)/bin/python  ## build the wheel and solve with it in a clean environment
	.ci/wheel $(BIN)/python $(INSTANCE)

docs: $(VENV)/.docs  ## build the manual as HTML in build/docs; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -c docs/manual -b html . build/docs
	@echo "Open build/docs/docs/manual/index.html"

long: $(VENV)/.dev $(VENV)/.bench $(VENV)/.docs $(VENV)/.networks  ## every test, thousands of random cases included
	$(BIN)/python -m pytest -m "not realtime" --timeout 7200 $(ARGS)

lint: $(VENV)/.dev $(VENV)/.networks  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## put the sources into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench  ## compare the exact solver, its peers and the heuristics
	$(BIN)/python -m benchmarks $(ARGS)

data: $(VENV)/.networks  ## rebuild the instances in data/, and what generate draws from
	$(BIN)/python data/make_instances.py
	$(BIN)/python data/make_catalogue.py

clean:  ## remove the environment, caches and outputs
	rm -rf $(VENV) build out .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) -e '.[dev,dask,report,tables]'
	@touch $@

$(VENV)/.bench: $(VENV)/.package
	$(PIP) -e '.[bench]'
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) -e '.[docs]'
	@touch $@

# torch is pinned first and torchvision comes without its dependencies: resolved together
# they may pull in an accelerator's libraries, gigabytes that nothing here needs.
$(VENV)/.networks: $(VENV)/.package
	$(PIP) torch==2.13.0
	$(PIP) --no-deps torchvision==0.28.0
	$(PIP) pillow pyarrow safetensors scikit-learn
	@touch $@
