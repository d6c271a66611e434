"""Gradient norms of every step, global and per variable, from inside the compiled step; Keras shows none."""

import csv
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np

from kerasblocks._arguments import as_flag, as_integer
from kerasblocks.callbacks._event_file import EventFile
from kerasblocks.training import current_replicas, global_gradient_norm, step_instrumentation

_COLUMNS = ("epoch", "step", "variable", "gradient_norm", "weight_norm", "update_ratio")
_ALL = "all"  # stands for the variable where the norm is the global one
_VANISHING, _EXPLODING = 1e-6, 1e3


class GradientNormLogger(keras.callbacks.Callback):
    """Adds the global L2 norm of the gradients to the logs of every step, and keeps those of each variable.

    ‖g‖ = √(Σᵢ ‖gᵢ‖²) over all trainable variables, unscaled, before clipping, in float32. It is computed inside the
    compiled step and read when the epoch is over, so that `fit` never waits for it. In the logs of an epoch stands the
    mean over its steps without those whose norm is not finite, which `non_finite_steps` counts: under loss scaling
    such steps are skipped by the optimizer.

    Args:
        per_variable: whether norms of each variable's gradient and weights are kept.
        log_dir: None, or a folder in which `NAME.csv` is written, with the columns epoch, step (of the optimizer),
            variable (its path, or `all`), gradient_norm, weight_norm and update_ratio, and TensorBoard event files,
            which need tensorboardX. An earlier file is carried on. Rows are added at the end of every epoch.
        every: number of steps between two that are kept per variable.
        update_ratio: whether ‖update‖ / ‖weights‖ of each variable is kept too.
        name: of the log entry and the file.

    Attributes:
        history: `step`, `epoch` and `NAME`, lists with an entry a step; `per_variable`, a dict of `step`, a list, and
            of `gradient_norm`, `weight_norm` and `update_ratio`, each a dict of a list for every variable's path. NaN
            stands for a variable without a gradient.
        non_finite_steps: number of steps whose norm was not finite.

    Raises:
        ImportError: a `log_dir` without tensorboardX.
        ValueError: an `every` below 1, a flag that is no bool, an empty name; when training begins, a model without an
            optimizer of Keras, or a file of that name with other columns.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.callbacks import GradientNormLogger
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    >>> model.compile("sgd", "mse")
    >>> norms = GradientNormLogger()
    >>> history = model.fit(np.ones((4, 1)), np.ones(4), verbose=0, callbacks=[norms])
    >>> history.history["grad_norm"], norms.history["grad_norm"]
    ([2.0], [2.0])
    """

    async_safe = True  # Nothing is done per batch.

    def __init__(
        self,
        per_variable: bool = True,
        log_dir: str | os.PathLike[str] | None = None,
        every: int = 1,
        update_ratio: bool = True,
        name: str = "grad_norm",
    ) -> None:
        super().__init__()
        self.per_variable = as_flag("per_variable", per_variable)
        self.log_dir = None if log_dir is None else Path(log_dir).absolute()
        self.every = as_integer("every", every, least=1)
        self.update_ratio = as_flag("update_ratio", update_ratio)
        if not isinstance(name, str) or not name or "/" in name:
            raise ValueError(f"name must be the name of a log entry and a file; got {name!r}.")
        self.name = name
        self._events = None if self.log_dir is None else EventFile(self.log_dir, "log_dir")
        self.history: dict[str, Any] = {}
        self.non_finite_steps = 0
        self._files: list[Any] = []
        weakref.finalize(self, _close, self._files)  # When fit raises, Keras never calls on_train_end.

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Asks for the norms; makes the folder and opens the files."""
        _close(self._files)
        self._step = step_instrumentation(self.model)
        self._step.add_statistic(self.name, global_gradient_norm)
        if self.per_variable:
            self._step.add_norms("gradient_norm", "weight_norm", *(["update_norm"] if self.update_ratio else []))
        self._step.add_listener(self._take)
        self._first_step = self._step.steps()
        self._epoch = 0
        self.non_finite_steps = 0
        kinds = ("gradient_norm", "weight_norm", *(["update_ratio"] if self.update_ratio else []))
        kept: dict[str, Any] = {"step": []} | {kind: {} for kind in kinds if self.per_variable}
        self.history = {"step": [], "epoch": [], self.name: [], "per_variable": kept}
        self._open()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch for the rows."""
        self._epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads what the steps of the epoch have left on the device, and writes it."""
        self._step.flush()
        for file in self._files:
            file.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the files and gives the step back."""
        self._step.flush()
        self._step.end()
        _close(self._files)

    def state_dict(self) -> dict[str, Any]:
        """Returns what has been measured, for a run that is resumed; it grows with the steps, as `history` does."""
        state = {name: getattr(self, name) for name in ("_first_step", "_epoch", "non_finite_steps")}
        for file in self._files:
            file.flush()
        written = self._csv.tell() if self._files else None
        return state | {"history": _changed(self.history, list, np.array), "written": written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes what `state_dict` has returned; rows of the file that will come again are cut off."""
        for name in ("_first_step", "_epoch", "non_finite_steps"):
            setattr(self, name, state[name])
        self.history = _changed(state["history"], np.ndarray, lambda array: array.tolist())
        paths = [variable.path for variable in self.model.trainable_variables]
        for kind, norms in self.history["per_variable"].items():
            if kind != "step" and len(norms) == len(paths):  # A model built again may have other names.
                self.history["per_variable"][kind] = dict(zip(paths, norms.values(), strict=True))
        if self._files and state["written"] is not None and state["written"] <= self._csv.tell():
            self._csv.truncate(state["written"])

    def summary(self) -> str:
        """Returns a plain verdict: which variables' gradients vanish or explode, and by what figure."""
        norms = np.array(self.history.get(self.name, []), "float64")
        if not norms.size:
            return "No step has been seen."
        finite = norms[np.isfinite(norms)]
        lines = [
            f"{norms.size} steps, {norms.size - finite.size} of them with a norm that is not finite."
            + (f" Median norm {np.median(finite):.3g}, largest {finite.max():.3g}." if finite.size else "")
        ]
        quarter = max(1, norms.size // 4)
        first, last = (_median(part) for part in (norms[:quarter], norms[-quarter:]))
        if not np.isfinite(norms[-quarter:]).all():
            return "\n".join([*lines, f"The gradients explode: norms of the last {quarter} steps are not finite."])
        if last > _EXPLODING * first:
            lines.append(f"The gradients explode: their norm grew {last / first:.3g}-fold.")
        medians = self._medians()
        largest = max((median for median in medians.values() if np.isfinite(median)), default=0.0)
        for path, median in medians.items():
            if np.isnan(median):
                lines.append(f"{path}: never had a gradient.")
            elif median <= _VANISHING * largest:
                lines.append(
                    f"{path}: vanishes; its median norm, {median:.3g}, is {median / largest:.1g} of the largest."
                )
        if len(lines) == 1:
            lines.append("No gradient vanishes or explodes.")
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws log₁₀ of each variable's gradient norm over the steps, as a picture whose format the name tells.

        Args:
            path: where the picture is written.

        Raises:
            ImportError: Matplotlib is not installed.
            ValueError: there is nothing to draw: no step yet, or `per_variable=False`.
        """
        norms = self.history.get("per_variable", {}).get("gradient_norm")
        if not norms or not self.history["per_variable"]["step"]:
            raise ValueError("There are no norms per variable to draw: fit with per_variable=True first.")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plot needs Matplotlib. Install it with: pip install matplotlib") from error
        values = np.array(list(norms.values()), "float64")
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.where(np.isfinite(values) & (values > 0), np.log10(values), np.nan)
        figure = Figure(figsize=(10, 1.5 + 0.25 * len(norms)), layout="constrained")
        axes = figure.subplots()
        steps = self.history["per_variable"]["step"]
        image = axes.imshow(
            shown, aspect="auto", interpolation="nearest", extent=(steps[0], steps[-1] + 1, len(norms), 0)
        )
        axes.set_yticks(np.arange(len(norms)) + 0.5, list(norms), fontsize="small")
        axes.set_xlabel("step")
        figure.colorbar(image, label="log₁₀ of the gradient's norm (blank: zero or not finite)")
        figure.savefig(path)

    def _medians(self) -> dict[str, float]:
        norms = self.history["per_variable"].get("gradient_norm", {})
        with np.errstate(all="ignore"):
            return {path: _median(np.array(each, "float64")) for path, each in norms.items() if each}

    def _take(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            step, norm = self._first_step + row["step"], row[self.name]
            self.non_finite_steps += not np.isfinite(norm)
            self.history["step"].append(step)
            self.history["epoch"].append(self._epoch)
            self.history[self.name].append(norm)
            self._write(step, _ALL, {"gradient_norm": norm})
            if self.per_variable and row["step"] % self.every == 0:
                self._take_per_variable(step, row)

    def _take_per_variable(self, step: int, row: dict[str, Any]) -> None:
        kept = self.history["per_variable"]
        kept["step"].append(step)
        found = {"gradient_norm": row["gradient_norm"], "weight_norm": row["weight_norm"]}
        if self.update_ratio:
            with np.errstate(divide="ignore", invalid="ignore"):
                found["update_ratio"] = row["update_norm"] / row["weight_norm"]
        for place, path in enumerate(self._step.paths):
            numbers = {kind: float(vector[place]) for kind, vector in found.items()}
            for kind, number in numbers.items():
                kept[kind].setdefault(path, []).append(number)
            self._write(step, path, numbers)

    def _open(self) -> None:
        if self.log_dir is None or not current_replicas().is_first:
            return
        self.log_dir.mkdir(parents=True, exist_ok=True)
        path = self.log_dir / f"{self.name}.csv"
        known = path.exists() and path.stat().st_size > 0
        if known:
            with path.open(newline="", encoding="utf-8") as file:
                header = next(csv.reader(file))
            if tuple(header) != _COLUMNS:
                raise ValueError(f"{path} exists and has the columns {header}; choose another log_dir or name.")
        self._csv = path.open("a", newline="", encoding="utf-8")
        self._table = csv.DictWriter(self._csv, _COLUMNS, lineterminator="\n")
        if not known:
            self._table.writeheader()
        self._files += [self._csv, self._events]

    def _write(self, step: int, variable: str, numbers: dict[str, float]) -> None:
        if self._events is None or not self._files:
            return
        self._table.writerow({"epoch": self._epoch, "step": step, "variable": variable, **numbers})
        for kind, number in numbers.items():
            if np.isfinite(number):
                self._events.add(self.name if variable == _ALL else f"{kind}/{variable}", number, step)


def _changed(tree: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Returns the nested dicts with their leaves of one kind changed."""
    if isinstance(tree, dict):
        return {name: _changed(part, kind, change) for name, part in tree.items()}
    return change(tree) if isinstance(tree, kind) else tree


def _median(values: np.ndarray) -> float:
    """Returns the median of what is not NaN, NaN where all is; more than half infinite numbers give infinity."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if values.size else float("nan")


def _close(files: list[IO[str] | EventFile]) -> None:
    while files:
        files.pop().close()
