# Everything from a fresh clone: Python >= 3.10 is all that must be there before.
#   make demo   the demo, with the packages of the device only
#   make test   ruff, mypy and all tests
#   make lock   choose the pinned versions anew
#   make api-check       look up every name of TensorRT that the code uses in NVIDIA's bindings of four versions
#   make compile-check   parse and build every graph with tensorrt-rtx, which needs no GPU (230 MB)
#   make fuzz    search for 20 s for bytes that break a safety property of the motor firmware (SECONDS=600: longer)
#   make coverage which lines of the motor firmware the tests run
#   make mutants change lines of the motor firmware and see whether a test fails (SAMPLE=60; ALL=1: all, goes on if stopped)
#   make originals       hold our definitions of models against their publishers' packages (190 MB)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

# PyPI's newer torch drags in several GB of CUDA packages that nothing here needs.
TORCH := torch==2.13.0
UV_COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --no-header --no-annotate

.PHONY: demo test lint lock api-check compile-check originals fuzz mutants coverage check-aarch64 clean

demo: $(VENV)/.device
	$(BIN)/latentloop demo

# Two files of tests at a time: many wait for a line, a process or a page.
test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.workstation
	$(BIN)/ruff check
	$(BIN)/mypy

# What these targets install is for these tests, so that one which is skipped is one that failed.
UNSKIPPED = LATENTLOOP_NO_SKIPS=1 $(BIN)/python -m pytest -rs

# Python bindings only, without the gigabytes of libraries behind them; tests/edge/engines/tensorrt/test_api.py has stubs.
API := $(VENV)/tensorrt-api
API_OF = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(API)
api-check: $(VENV)/.workstation
	$(API_OF)/10.3.0 tensorrt-cu12-bindings==10.3.0
	$(API_OF)/10.13.3.9 tensorrt-cu12-bindings==10.13.3.9
	$(API_OF)/10.16.1.11 tensorrt-cu12-bindings==10.16.1.11
	$(API_OF)/11.4.0.106 tensorrt-cu13-bindings==11.4.0.106
	$(API_OF)/cuda-12.9 'cuda-bindings==12.9.*' cuda-pathfinder
	$(API_OF)/cuda-13.2 'cuda-bindings==13.2.*' cuda-pathfinder
	$(UNSKIPPED) tests/edge/engines/tensorrt/test_api.py

COMPILED = tests/export/test_compile.py tests/export/test_compile_sources.py tests/export/sources/test_vjepa.py::test_graphs_compile \
    tests/edge/engines/tensorrt/test_builder.py tests/edge/engines/tensorrt/test_making.py
compile-check: $(VENV)/.workstation
	$(PIP) --editable '.[compile-check]'
	$(UNSKIPPED) $(COMPILED)

SECONDS := 20
SAMPLE := 60
fuzz: $(VENV)/.workstation
	$(BIN)/python -m firmware_bridge.evidence.fuzz --seconds $(SECONDS)

mutants: $(VENV)/.workstation
	$(BIN)/python -m firmware_bridge.evidence.mutants $(if $(ALL),--all,--sample $(SAMPLE))

coverage: $(VENV)/.workstation
	$(BIN)/python -m firmware_bridge.evidence.coverage

# Packages that only these tests need. stable-worldmodel asks for simulators, of which its model uses none.
originals: $(VENV)/.workstation
	$(PIP) 'transformers>=5.24,<5.25' 'einops>=0.8,<0.9'
	$(PIP) --no-deps stable-worldmodel==0.1.1
	$(UNSKIPPED) tests/export/sources -k computes_the_same

# The versions of the lock file must exist as wheels for JetPack 6 (Python 3.10, glibc 2.35) and 7 (3.12, glibc 2.39).
check-aarch64: $(VENV)/.uv
	$(UV_COMPILE) --only-binary :all: --constraint requirements.lock \
	    --python-platform aarch64-manylinux_2_35 --python-version 3.10 --output-file $(VENV)/aarch64-3.10.txt
	$(UV_COMPILE) --only-binary :all: --constraint requirements.lock \
	    --python-platform aarch64-manylinux_2_39 --python-version 3.12 --output-file $(VENV)/aarch64-3.12.txt
	@echo "device packages: wheels for aarch64 exist on Python 3.10 and 3.12"

# CUDA packages stay out: pip would take them as limits for other builds of torch too.
lock: $(VENV)/.uv
	echo '$(TORCH)' > $(VENV)/torch.txt
	$(UV_COMPILE) --upgrade --universal --python-version 3.10 --all-extras --constraint $(VENV)/torch.txt \
	    --output-file $(VENV)/lock.txt > /dev/null
	{ echo '# made by: make lock'; grep -vE '^(nvidia|cuda|triton)' $(VENV)/lock.txt; } > requirements.lock

$(VENV)/.device: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/.workstation: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) --editable '.[test,export,video,openvino,mavlink,can]'
	touch $(VENV)/.device $@

$(VENV)/.uv: | $(BIN)/python
	$(PIP) 'uv>=0.9,<1'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
