"""Find out why a model does not train: check it and its data, with any Keras backend.

    python apps/checkup.py my_module:make                           # a function of yours
    python apps/checkup.py --model model.keras --data data.npz      # a saved model, and arrays

The function takes no arguments and returns what `kerasblocks.diagnostics.checkup` takes: (model, x, y), or a dict with
model, x, y, validation_data and its other options; those of the command line go before these. The file has the arrays x
and y, and x_validation and y_validation if there are such. The model must be compiled, and a saved one have been saved
with its optimizer and loss.

The findings are printed as a table; --html, --json and --plot write them too. The exit code is 1 where a check failed.
"""

import dataclasses
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from _launch import user_errors

with user_errors():
    import tyro
    from _options import BackendOption, start


@dataclasses.dataclass(frozen=True)
class Config(BackendOption):
    """Find out why a model does not train."""

    function: tyro.conf.Positional[str | None] = None
    """MODULE:FUNCTION that makes the model and its data; the module is looked for in the working directory too."""
    model: Path | None = None
    """A saved model, a .keras file."""
    data: Path | None = None
    """Its data, an .npz file with x and y, and x_validation and y_validation."""
    checks: tuple[str, ...] = ("all",)
    """Names of checks, or all."""
    budget_seconds: float = 60.0
    """How long the check-up may take; checks without time left are not applicable."""
    batch_size: int = 32
    """Samples in a batch, where the data are arrays."""
    seed: int = 0
    """Seed of the choice of samples."""
    html: Path | None = None
    """Where to write the report as a page."""
    json: Path | None = None
    """Where to write it as data."""
    plot: Path | None = None
    """Where to draw its pictures (PNG, SVG, PDF)."""

    def __post_init__(self) -> None:
        """Refuses what says nothing, or two things."""
        if (self.function is None) == (self.model is None):
            raise ValueError("give either MODULE:FUNCTION, or --model and --data.")
        if (self.model is None) != (self.data is None):
            raise ValueError("--model and --data go together.")
        for file in (self.html, self.json, self.plot):
            if file is not None and not file.absolute().parent.is_dir():
                raise ValueError(f"{file}: there is no such folder.")


def check(config: Config) -> None:
    """Runs the check-up, writes what was asked for, and ends with 1 where a check failed."""
    with user_errors():
        given = made_by(config.function) if config.function else saved(config.model, config.data)
    from kerasblocks.diagnostics import checkup

    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    options = {
        name: getattr(config, name)
        for name in ("checks", "budget_seconds", "batch_size", "seed")
        if getattr(config, name) != defaults[name]
    }
    with user_errors():
        unknown = sorted(set(given) - set(inspect.signature(checkup).parameters))
        if unknown:
            raise ValueError(
                f"{config.function} returned a dict with {', '.join(unknown)}, which checkup does not take."
            )
        report = checkup(**given | options)
        for path, write in ((config.html, report.to_html), (config.json, report.to_json), (config.plot, report.plot)):
            if path is not None:
                write(path)
    if report.failed:
        sys.exit(1)


def made_by(name: str) -> dict[str, Any]:
    """Returns what a function named MODULE:FUNCTION makes, as arguments of the check-up."""
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"the function must be named MODULE:FUNCTION; got {name!r}.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"there is no module {module} in the working directory, nor one installed.") from error
    if not hasattr(imported, function):
        raise ValueError(f"the module {module} has no {function}.")
    made = getattr(imported, function)()
    if isinstance(made, dict):
        return made
    if not isinstance(made, tuple) or not 2 <= len(made) <= 3:
        raise ValueError(f"{name} must return (model, x, y) or a dict; got a {type(made).__name__}.")
    return dict(zip(("model", "x", "y"), made, strict=False))


def saved(model: Path | None, data: Path | None) -> dict[str, Any]:
    """Returns a saved model and its arrays as arguments of the check-up."""
    import keras
    import numpy as np

    import kerasblocks  # noqa: F401 - so that models with its layers can be loaded

    assert model is not None  # noqa: S101 - both are given
    assert data is not None  # noqa: S101
    with np.load(data) as arrays:
        missing = {"x", "y"} - set(arrays)
        if missing:
            raise ValueError(f"{data} must have the arrays x and y; it has {', '.join(arrays)}.")
        made: dict[str, Any] = {"x": arrays["x"], "y": arrays["y"]}
        if ("x_validation" in arrays) != ("y_validation" in arrays):
            raise ValueError(f"{data}: x_validation and y_validation go together; it has {', '.join(arrays)}.")
        if "x_validation" in arrays:
            made["validation_data"] = arrays["x_validation"], arrays["y_validation"]
    return {"model": keras.saving.load_model(model), **made}


if __name__ == "__main__":
    start(Config, __doc__, check)
