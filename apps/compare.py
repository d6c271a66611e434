"""Compare LeNet-5 with AlexNet, or runs that are there: one table and one picture.

    python apps/compare.py                     # trains both on the same handwritten digits
    python apps/compare.py --data DIR          # the same on your own folder of images
    python apps/compare.py runs/A runs/B       # finished runs of the apps that train one model, each in its column

A comparison leaves config.json, comparison.json, comparison.png and, where it has trained, the two runs in its run
directory; one that was interrupted or killed in its training goes on when it is started again with that directory.

The two are LeNet-5 as it was published in 1998 and the AlexNet of one tower, at a quarter of its width and 63 pixels;
beside them stands what the AlexNet of 2012 costs at its full size, which is built and not trained.
"""

import csv
import dataclasses
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from _launch import user_errors

with user_errors():
    import tyro
    from _options import BackendOption, new_directory, start
    from rich.console import Console
    from rich.table import Table

NETWORKS = {
    "LeNet-5": ("lenet", ("--variant", "1998", "--epochs", "15")),
    "AlexNet": ("alexnet", ("--variant", "single", "--epochs", "15", "--augment", "none")),
}
WRITING = ("digits", "mnist")  # whose mirror images are others, or none
COSTS = ("parameters", "multiply_adds", "activation_bytes")


@dataclasses.dataclass(frozen=True)
class Config(BackendOption):
    """Compare LeNet-5 with AlexNet, or runs that are there."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run directories; without any, LeNet-5 and AlexNet are trained."""
    data: str = "digits"
    """What both are trained on: digits, photos, mnist, fashion_mnist or cifar10; an .npz file; a folder of images."""
    seed: int = 0
    """Seed of starting weights and data order of both."""
    limit: int | None = None
    """At most this many images of each split, for quick comparisons."""
    run_directory: Annotated[Path | None, tyro.conf.arg(aliases=["--run-dir"])] = None
    """Where the comparison goes; by default a new folder runs/compare-DATE-TIME."""
    overwrite: bool = False
    """Replace an earlier comparison in the run directory, and what it has trained."""

    def __post_init__(self) -> None:
        """Refuses options that would go unused."""
        for field in dataclasses.fields(self):
            trains = field.name in ("data", "seed", "limit")
            if self.runs and trains and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} has no effect on runs that are there.")
        if not 0 <= self.seed < 2**32 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"seed must be 0 or more, and limit positive; got {self.seed} and {self.limit}.")
        if self.runs and len({run.resolve() for run in self.runs}) < max(2, len(self.runs)):
            raise ValueError(f"runs must be two or more, each named once; got {', '.join(map(str, self.runs))}.")


def compare(config: Config) -> None:
    """Trains the two if no runs are named, and prints and leaves the comparison."""
    from kerasblocks.training import RunDirectory, environment

    with user_errors():
        path = config.run_directory or new_directory("compare")
        options = {"runs": [*map(str, config.runs)], "data": config.data, "seed": config.seed, "limit": config.limit}
        check_place(path, config.runs, options, overwrite=config.overwrite)
        directory = RunDirectory(path, overwrite=config.overwrite, resume=not config.runs)
        facts = {"comparison": options, "environment": environment()}
        if config.runs:
            runs = {str(run): run for run in config.runs}
        else:
            directory.start(facts)
            runs = train_both(config, directory.path)
        columns = {name: column_of(run) for name, run in runs.items()}
        curves = {name: curves_of(run) for name, run in runs.items()}
        if config.runs:
            directory.start(facts)
    if not config.runs:
        columns["AlexNet 2012, full size, not trained"] = full_size()
    console = Console()
    console.print(table(columns))
    if len({data_of(run) for run in runs.values()}) > 1:
        console.print("The runs had different data: their accuracies and losses do not compare.")
    directory.write_json("comparison.json", columns)
    with directory.writing("comparison.png") as file:
        plot(columns, curves, file)
    console.print(f"See {directory.path}", soft_wrap=True)


def check_place(path: Path, runs: tuple[Path, ...], options: dict[str, Any], *, overwrite: bool) -> None:
    """Refuses to write over what is compared, over runs that are no comparison, and over another comparison."""
    from kerasblocks.training import read_run_config

    inside = [str(run) for run in runs if run.resolve().is_relative_to(path.resolve())]
    if inside:
        raise ValueError(f"run_directory must hold none of the runs that are compared; {path} holds {inside[0]}.")
    if not (path / "config.json").is_file():
        return
    before = read_run_config(path).get("comparison")
    if before is None:
        raise ValueError(f"{path}: holds a run that is no comparison. Choose another folder.")
    if not runs and not overwrite and before != options:
        name = next(name for name in options if before.get(name) != options[name])
        raise ValueError(
            f"{path}: holds a comparison of something else: {name} is {before.get(name)} there, {options[name]} here. "
            "Choose another folder, or --overwrite."
        )


def train_both(config: Config, directory: Path) -> dict[str, Path]:
    """Runs the two apps, as a user would; a run that is there goes on, or is over."""
    runs = {}
    for name, (app, options) in NETWORKS.items():
        runs[name] = directory / app
        given = {"--data": config.data, "--seed": config.seed, "--limit": config.limit, "--run-directory": runs[name]}
        chosen = [str(each) for option, value in given.items() if value is not None for each in (option, value)]
        if app == "alexnet" and config.data in WRITING:
            chosen.append("--no-mirror")
        if is_finished(runs[name]):
            continue
        command = [sys.executable, str(Path(__file__).with_name(f"{app}.py")), *chosen, *options]
        if status_of(command):
            raise ValueError(f"{name} could not be trained; its message stands above.")
    return runs


def status_of(command: list[str]) -> int:
    """Runs a command to its end and returns its status; lets it save its last step where this one is told to end."""
    with subprocess.Popen(command) as process:  # noqa: S603
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        except KeyboardInterrupt:  # The terminal has interrupted both.
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)


def is_finished(run: Path) -> bool:
    """Returns whether a run has left its model and its metrics."""
    return (run / "metrics.json").is_file() and (run / "model.keras").is_file()


def data_of(run: Path) -> tuple[Any, ...]:
    """Returns what tells the data of a run from others'."""
    from kerasblocks.training import read_run_config

    data = read_run_config(run).get("data", {})
    source = data.get("source")
    where = str(Path(source).resolve()) if source and Path(source).exists() else source
    return where, data.get("train_images"), data.get("test_images")


def column_of(run: Path) -> dict[str, Any]:
    """Returns what a run directory and its model say."""
    import keras

    from kerasblocks.training import read_run_config

    facts = read_run_config(run)
    if not is_finished(run):
        raise ValueError(f"{run}: no finished run: it has no metrics.json and model.keras.")
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    options, data, place = (facts.get(name, {}) for name in ("options", "data", "environment"))
    model = keras.saving.load_model(run / "model.keras")
    memory = metrics.pop("peak_memory_bytes", {})
    return {
        "data": str(data.get("source", options.get("data"))),
        "input": " x ".join("?" if side is None else str(side) for side in model.input_shape[1:]),
        **costs_of(model),
        **architecture_of(model),
        "training": ", ".join(trained_with(model, options | facts.get("augmentation", {}))),
        "device": f"{place.get('backend')} {place.get('backend_version')}, {(place.get('devices') or ['?'])[0]}",
        **{f"peak memory, {name}, MB": round(value / 1e6) for name, value in memory.items() if value},
        **{name: value for name, value in metrics.items() if isinstance(value, int | float)},
    }


def costs_of(model: Any) -> dict[str, int]:
    """Returns what one sample costs; of a model whose input has no fixed size, the parameters only."""
    from kerasblocks.models import cost

    if None in model.input_shape[1:]:
        return {"parameters": model.count_params()}
    found = cost(model)
    return {name: getattr(found, name) for name in COSTS}


def architecture_of(model: Any) -> dict[str, str]:
    """Returns the activations, and what normalizes and regularizes, as the layers tell them."""
    import keras

    layers = [layer for layer in model._flatten_layers(include_self=False) if not isinstance(layer, keras.Model)]
    activations = [getattr(getattr(layer, "activation", None), "__name__", "linear") for layer in layers]
    normal = [type(layer).__name__ for layer in layers if "Norm" in type(layer).__name__]
    drop = [
        f"{type(layer).__name__} {layer.rate:g}" for layer in layers if "Drop" in type(layer).__name__ and layer.rate
    ]
    penalties = ["L2 penalty" for layer in layers if getattr(layer, "kernel_regularizer", None) is not None]
    return {
        "activation": ", ".join(dict.fromkeys(name for name in activations if name != "linear")) or "none",
        "normalization": ", ".join(dict.fromkeys(normal)) or "none",
        "regularization": ", ".join(dict.fromkeys(drop + penalties)) or "none",
    }


def trained_with(model: Any, options: dict[str, Any]) -> list[str]:
    """Returns the optimizer, and what of the run's options says how it was trained."""
    found = [type(model.optimizer).__name__] if model.optimizer is not None else []
    decay = getattr(model.optimizer, "weight_decay", None)
    given = options | {"weight_decay": decay or options.get("weight_decay"), "augmentation": options.get("kind")}
    told = ("weight_decay", "label_smoothing", "augmentation", "epochs", "steps", "batch_size", "precision")
    return found + [f"{name.replace('_', ' ')} {given[name]}" for name in told if given.get(name) is not None]


def full_size() -> dict[str, Any]:
    """Returns what the published AlexNet costs."""
    from kerasblocks.models import alexnet

    model = alexnet()
    return {"input": "227 x 227 x 3", **costs_of(model), **architecture_of(model)}


def curves_of(run: Path) -> dict[str, list[float]]:
    """Returns the columns of a run's history."""
    try:
        with (run / "history.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]} if rows else {}
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise ValueError(f"{run / 'history.csv'}: no history of a run: {error}.") from error


def table(columns: dict[str, dict[str, Any]]) -> Table:
    """Returns a row for each quantity, a column for each run."""
    found = Table("", *columns)
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        found.add_row(name.replace("_", " "), *(shown(column.get(name)) for column in columns.values()))
    return found


def shown(value: Any) -> str:
    """Returns a cell's text."""
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def plot(columns: dict[str, dict[str, Any]], curves: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Draws the numbers that several columns have, and the curves that all runs have."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colours = {name: f"C{place}" for place, name in enumerate(columns)}
    numbers = [
        name
        for name in dict.fromkeys(name for column in columns.values() for name in column)
        if sum(isinstance(column.get(name), int | float) for column in columns.values()) > 1
    ]
    shared = [
        name
        for name in next(iter(curves.values()), {})
        if name != "epoch" and all(name in each for each in curves.values())
    ]
    rows = math.ceil((len(numbers) + len(shared)) / 4)
    figure = Figure(figsize=(14, 2.6 * rows + 0.6), layout="constrained")
    for place, name in enumerate(numbers + shared, start=1):
        axes = figure.add_subplot(rows, 4, place)
        axes.set_title(name.replace("_", " "), fontsize="medium")
        if name in shared and place > len(numbers):
            for run, each in curves.items():
                axes.plot(range(1, len(each[name]) + 1), each[name], color=colours[run])
            axes.set_xlabel("epoch", fontsize="small")
            continue
        values = {run: column[name] for run, column in columns.items() if name in column}
        bars = axes.bar(list(values), list(values.values()), color=[colours[run] for run in values], alpha=0.8)
        axes.bar_label(bars, [shown(value) for value in values.values()], fontsize="small")
        axes.set_xticks([])
        axes.margins(y=0.2)
        positive = [abs(value) for value in values.values() if value]
        if positive and max(positive) > 30 * min(positive):
            axes.set_yscale("log")
    handles = [Patch(color=colour, alpha=0.8, label=run) for run, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(colours))
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    start(Config, __doc__, compare)
