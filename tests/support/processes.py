"""Runs a script on a backend of one's choice, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

BACKENDS = ("tensorflow", "jax", "torch")


def run(script: Path | str, *arguments: Any, backend: str) -> str:
    """Returns what the script, or the module after "-m", prints; asserts that it ends well."""
    command = [sys.executable, str(script), *map(str, arguments)]
    environment = os.environ | {"KERAS_BACKEND": backend}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{backend}: {result.stderr[-2000:]}"
    return result.stdout
