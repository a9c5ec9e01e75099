"""The code is formatted, free of lint, and typed: `make lint` mends the first two."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("src", "tests", "benchmarks")


@pytest.mark.parametrize(
    "tool", [("ruff", "check", *PLACES), ("ruff", "format", "--check", *PLACES), ("mypy",)], ids=" ".join
)
def test_the_code_passes(tool: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
