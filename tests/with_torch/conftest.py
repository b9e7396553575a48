"""These tests need torch, which searching never does: `make torch-test` runs them in an environment of their own."""

import os
from importlib.metadata import PackageNotFoundError, version

# Read when the hub's library is imported; without it, that tries for most of a minute to reach a network.
os.environ["HF_HUB_OFFLINE"] = "1"

try:
    version("torch")
except PackageNotFoundError:
    collect_ignore_glob = ["test_*.py"]
