# Everything from a fresh clone: Python >= 3.10 is all that must be there before.
#   make demo   the demo, with the packages of the device only
#   make test   ruff, mypy and all tests
#   make lock   choose the pinned versions anew
#   make api-check   look up every name of TensorRT that the code uses in NVIDIA's bindings of four versions

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

# PyPI's newer torch drags in several GB of CUDA packages that nothing here needs.
TORCH := torch==2.13.0
UV_COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --no-header --no-annotate

.PHONY: demo test lint lock api-check check-aarch64 clean

demo: $(VENV)/.device
	$(BIN)/latentloop demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.workstation
	$(BIN)/ruff check
	$(BIN)/mypy

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
	$(BIN)/python -m pytest tests/edge/engines/tensorrt/test_api.py

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
	$(PIP) --editable '.[test,export,video,openvino,mavlink]'
	touch $(VENV)/.device $@

$(VENV)/.uv: | $(BIN)/python
	$(PIP) 'uv>=0.9,<1'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
