"""The options that apps share, and how they start with them."""

import contextlib
import dataclasses
import datetime
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from _launch import Backend, choose_backend, user_errors


@dataclasses.dataclass(frozen=True)
class BackendOption:
    """What every app asks."""

    backend: Backend | None = None
    """Keras's backend; by default KERAS_BACKEND, else the first one installed."""


@dataclasses.dataclass(frozen=True)
class RunOptions(BackendOption):
    """Where and how a run goes on, whatever it trains."""

    seed: int = 0
    """Seed of starting weights and data order."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras's dtype policy."""
    devices: int | None = None
    """Devices that share every batch; by default all there are. On PyTorch, as many processes as torchrun starts."""
    run_directory: Annotated[Path | None, tyro.conf.arg(aliases=["--run-dir"])] = None
    """Where the run's files go, and a run that has begun there goes on; by default a new folder runs/APP-DATE-TIME."""
    checkpoint_steps: int = 200
    """A checkpoint after so many steps, beside one after each epoch."""
    overwrite: bool = False
    """Replace an earlier run in the run directory."""
    limit: int | None = None
    """At most this many images, or tokens, of each split, for quick runs."""

    def check_positive(self, *names: str) -> None:
        """Refuses options, beside those here, that are not above 0 and finite; None stands for an option not given."""
        for name in (*names, "checkpoint_steps", "limit", "devices"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite; got {value}.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..{2**32 - 1}; got {self.seed}.")

    def deciding(self) -> dict[str, Any]:
        """Returns the options that decide what comes out, by which a run is known again."""
        place = {"backend", "devices", "run_directory", "overwrite", "checkpoint_steps"}
        found = {name: value for name, value in vars(self).items() if name not in place}
        return {
            name: str(value) if isinstance(value, Path) else [*map(str, value)] if isinstance(value, tuple) else value
            for name, value in found.items()
        }


Options = TypeVar("Options", bound=RunOptions)
Started = TypeVar("Started", bound=BackendOption)


def start(kind: type[Started], description: str | None, app: Callable[[Started], None]) -> None:
    """Reads the command line, settles the backend, then runs the app."""
    with user_errors():
        config = tyro.cli(kind, description=description)
    config = dataclasses.replace(config, backend=choose_backend(config.backend))
    try:
        app(config)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


def train_on_devices(config: Options, train: Callable[[Options, bool], None]) -> None:
    """Calls `train(config, is_first)` on the devices that there are; the first of several processes writes."""
    from kerasblocks.training import data_parallel

    with contextlib.ExitStack() as entered:
        with user_errors():
            replicas = entered.enter_context(data_parallel(config.devices))
        train(config, replicas.is_first)


def new_directory(app: str) -> Path:
    """Returns the folder that a run of this app gets by default."""
    return Path("runs", f"{app}-{datetime.datetime.now():%Y%m%d-%H%M%S-%f}")


def newest_run(app: str) -> Path:
    """Returns the folder of the app's newest run that has a trained model, among those named by default."""
    models = sorted(Path("runs").glob(f"{app}-*/model.keras"), key=lambda model: model.stat().st_mtime)
    if not models:
        raise FileNotFoundError("runs: no trained model here. Train one first, or name a run with --run-directory.")
    return models[-1].parent


def peak_of_run(directory: Any, peak: dict[str, int | None]) -> dict[str, int | None]:
    """Returns the peaks of memory, or larger ones that the run has told before; one that is over does not train."""
    file = directory.path / "metrics.json"
    told = json.loads(file.read_text(encoding="utf-8")).get("peak_memory_bytes", {}) if file.is_file() else {}
    return {name: max(value or 0, told.get(name) or 0) or None for name, value in peak.items()}


def end_if_not_finite(guard: Any, is_first: bool) -> None:
    """Ends the program where a `TerminateOnNaN` has stopped the training, with what it found."""
    if guard.report is not None:
        told = f"error: {guard.report['cause']} What to do: {guard.report['remedy']} See {guard.report_path}"
        sys.exit(told if is_first else 1)
