#!/bin/sh
# Make the environment that `python -m benchmarks.duplicates --peers .venv-duplicate-peers/bin/python` needs: Python 3.12 or newer.
set -eu
here=$(dirname "$0")
venv=${1:-$here/../.venv-duplicate-peers}

"${PYTHON:-python3.12}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

pip install 'immaculate[sscd]==0.3.0' ImageHash==4.3.2 czkawka==0.1.2 scikit-learn matplotlib tqdm
pip install --no-deps imagededup==0.3.3.post2   # its hashes only: torch and torchvision are for its CNN
"$venv/bin/python" "$here/duplicate_peers.py" check
