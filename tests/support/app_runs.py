"""Runs an app as its command does, without the seconds of its imports."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import keras

APPS = Path(__file__).parents[2] / "apps"


def command(name: str, *arguments: Any) -> list[str]:
    """Returns the command that runs the app with this Python."""
    return [sys.executable, str(APPS / f"{name}.py"), *map(str, arguments)]


def run_app(name: str, *arguments: Any, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Runs the app in this process, which is left as it was but for the random states."""
    _, *given = command(name, *arguments)
    output, errors, policy, code = io.StringIO(), io.StringIO(), keras.config.dtype_policy(), 0
    with (
        mock.patch.object(sys, "argv", given),
        mock.patch.object(sys, "path", [str(APPS), *sys.path]),
        mock.patch.dict(os.environ),
        warnings.catch_warnings(),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        warnings.simplefilter("ignore")  # of other libraries; those of ours are errors in the tests of the library
        try:
            runpy.run_path(given[0], run_name="__main__")
        except SystemExit as end:  # A text ends the process with 1, after it was printed.
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                errors.write(end.code + "\n")
        finally:
            keras.config.set_dtype_policy(policy)
    return subprocess.CompletedProcess(given, code, output.getvalue(), errors.getvalue())
