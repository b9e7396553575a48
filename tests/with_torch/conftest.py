"""These tests need torch, which searching never does: `make torch-test` runs them in an environment of their own."""

from importlib.metadata import PackageNotFoundError, version

try:
    version("torch")
except PackageNotFoundError:
    collect_ignore_glob = ["test_*.py"]
