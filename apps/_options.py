"""The options that every training app has."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from _launch import Backend


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where and how a run goes on, whatever it trains."""

    seed: int = 0
    """Seed of starting weights and data order."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras's dtype policy."""
    devices: int | None = None
    """Devices that share every batch; by default all there are. On PyTorch, as many processes as torchrun starts."""
    backend: Backend | None = None
    """Keras's backend; by default KERAS_BACKEND, else the first one installed."""
    run_directory: Annotated[Path | None, tyro.conf.arg(aliases=["--run-dir"])] = None
    """Where the run's files go, and a run that has begun there goes on; by default a new folder runs/APP-DATE-TIME."""
    checkpoint_steps: int = 200
    """A checkpoint after so many steps, beside one after each epoch."""
    overwrite: bool = False
    """Replace an earlier run in the run directory."""
    limit: int | None = None
    """At most this many images of each split, for quick runs."""

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
        return {name: str(value) if isinstance(value, Path) else value for name, value in found.items()}
