# Everything here works on a fresh clone with python3 >= 3.11 and make: each target makes the
# part of .venv that it needs, once (stamp files).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq -c constraints.txt
INSTANCE ?= data/digits/instance.json
DATA ?= data
# For `make gpu`: a machine with its own torch and torchvision, and no network.
DEVICE ?= cuda
GPU_PYTHON ?= python3.12
GPU_DATA ?= datasets
WHEELS ?= wheels
# Beside torch and torchvision, and numpy and pillow that come with them. pyarrow only reads cifar10.
GPU_PACKAGES := annotated-doc annotated-types click highspy iniconfig joblib markdown-it-py mdurl \
	packaging pandas pluggy pyarrow pydantic pydantic_core Pygments pyomo pytest pytest-timeout \
	python-dateutil PyYAML rich safetensors scikit-learn scipy shellingham six threadpoolctl typer \
	typing-inspection typing_extensions tzdata

# The solver and the tests bring their own parallelism; nested threads only slow them down.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-realtime gpu gpu-wheels everything wheel docs links long lint format bench data clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 16

demo: $(VENV)/.networks  ## solve a shipped instance and run what comes out (INSTANCE=FILE)
	rm -rf out/demo
	$(BIN)/python solve.py $(INSTANCE) --out out/demo
	@echo
	$(BIN)/code-opt evaluate $(INSTANCE) out/demo/*.exact.json out/demo/*.code.json \
		--data $(DATA) --seconds 3 --out out/demo/evaluation || [ $$? -eq 1 ]  # 1: not confirmed

test: $(VENV)/.dev $(VENV)/.networks  ## all tests but the long ones
	$(BIN)/python -m pytest -m "not long and not realtime and not gpu" -n 2 --dist loadfile \
		--no-loadscope-reorder $(ARGS)

test-realtime: $(VENV)/.dev $(VENV)/.networks  ## what only this machine's clock tells; nothing else should run
	$(BIN)/python -m pytest -m realtime $(ARGS)

ifeq ($(DEVICE),cpu)
gpu: $(VENV)/.dev $(VENV)/.networks
else
gpu: .venv-gpu/.ready
endif
gpu:  ## run on a GPU what needs one, tables into out/gpu (DEVICE=cpu: dry run)
	$(if $(filter cpu,$(DEVICE)),$(BIN),.venv-gpu/bin)/python -m benchmarks.gpu \
		--device $(DEVICE) --data $(GPU_DATA) --out out/gpu

gpu-wheels: $(VENV)/bin/python  ## fetch into WHEELS what make gpu installs without a network
	$(BIN)/python -m pip download -qq -c constraints.txt --no-deps --only-binary=:all: --python-version 3.12 \
		$(addprefix --platform ,manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64) \
		-d $(WHEELS) $(GPU_PACKAGES)

everything: $(VENV)/.dev $(VENV)/.bench $(VENV)/.docs $(VENV)/.networks $(VENV)/.deploy  ## install all that the tests can use

wheel: $(VENV)/bin/python  ## build the wheel and solve with it in a clean environment
	.ci/wheel $(BIN)/python $(INSTANCE)

docs: $(VENV)/.docs  ## build the manual as HTML in build/docs; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -c docs/manual -b html . build/docs
	@echo "Open build/docs/docs/manual/index.html"

links: $(VENV)/.docs  ## ask whether the links of the manual to other sites lead somewhere; needs the internet
	$(BIN)/python -m sphinx -q -b linkcheck -c docs/manual . build/links

long: $(VENV)/.dev $(VENV)/.bench $(VENV)/.docs $(VENV)/.networks $(VENV)/.deploy  ## every test, thousands of random cases included
	$(BIN)/python -m pytest -m "not realtime and not gpu" --timeout 7200 $(ARGS)

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
	$(BIN)/python data/make_typical_drops.py
	$(BIN)/python data/make_city_plan.py

clean:  ## remove the environment, caches and outputs
	rm -rf $(VENV) .venv-gpu build out .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.package
	$(PIP) -e '.[dev,dask,desk,report,tables]'
	@touch $@

$(VENV)/.bench: $(VENV)/.package
	$(PIP) -e '.[bench]'
	@touch $@

# torch and torchvision are the machine's own; everything else comes from wheels carried there.
.venv-gpu/.ready:
	$(GPU_PYTHON) -m venv --system-site-packages .venv-gpu
	.venv-gpu/bin/python -m pip install -qq --no-index --no-deps --find-links $(WHEELS) $(GPU_PACKAGES)
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.deploy: $(VENV)/.package
	$(PIP) -e '.[deploy]'
	@touch $@

# torch is pinned first and torchvision comes without its dependencies: resolved together
# they may pull in an accelerator's libraries, gigabytes that nothing here needs.
$(VENV)/.networks: $(VENV)/.package
	$(PIP) torch==2.13.0
	$(PIP) --no-deps torchvision==0.28.0
	$(PIP) pillow pyarrow safetensors scikit-learn
	@touch $@
