"""An app, run as a user runs it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_APPS = Path(__file__).parents[1] / "apps"


def run_app(name: str, options: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs `apps/NAME.py` in a run directory that is thrown away; returns its config.json and metrics.json."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(_APPS / f"{name}.py"), *options, "--run-directory", folder]
        subprocess.run(command, check=True, stdout=sys.stderr)
        config, metrics = (json.loads((Path(folder) / file).read_text()) for file in ("config.json", "metrics.json"))
    return config, metrics
