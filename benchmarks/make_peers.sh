#!/bin/sh
# Make the environment that `python -m benchmarks.indexing --peers .venv-peers/bin/python` needs.
set -eu
here=$(dirname "$0")
venv=${1:-$here/../.venv-peers}
packages=$(sed 's/ *#.*//; /^$/d' "$here/peers.txt")
bare='torch\|torchvision\|efficientnet\|imagededup'

"${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

pip install "$(echo "$packages" | grep '^torch==')"
# shellcheck disable=SC2046 # one word a package
pip install $(echo "$packages" | grep -v "^\($bare\)")
# shellcheck disable=SC2046
pip install --no-deps $(echo "$packages" | grep "^\($bare\)" | grep -v '^torch==')
"$venv/bin/python" "$here/peers.py" check
