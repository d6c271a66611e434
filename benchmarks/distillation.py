"""Claims of the distiller: time of a step, memory of the loss over a vocabulary, what it gains where labels are few."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from benchmarks._fits import FIRST, seconds_of_a_step, take_turns
from benchmarks._paired import ratios
from benchmarks._results import append_row
from kerasblocks.data import ArrayBatches
from kerasblocks.distillation import Distiller, FeatureDistillation, LogitsDistillation, TeacherCache
from kerasblocks.training import environment

Case = Literal["logits", "features", "cache"]
_BARS: dict[Case, float] = {"logits": 1.0, "features": 0.75, "cache": 1.10}
_BATCH, _STEPS = 128, 52
_APP = Path(__file__).parents[1] / "apps" / "distill.py"


def steps(cases: tuple[Case, ...] = ("logits", "features", "cache"), blocks: int = 15) -> None:
    """Measures the time of a step of fit, against Keras's own Distiller or, from a cache, the student alone.

    Args:
        cases: the formula; the formula and a feature loss; the formula from stored outputs against plain training.
        blocks: how many paired blocks, a block being an epoch.
    """
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            fits = {name: _fit(case, name == "ours", Path(folder)) for name in ("ours", "other", "again")}
            found = ratios(take_turns(fits, blocks))
        row = {"case": case, "batch": _BATCH, "steps_a_block": _STEPS - FIRST, **found, "bar": _BARS[case]}
        append_row("distillation_steps", environment(), row)


def _fit(case: Case, ours: bool, folder: Path) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    x = rng.random((_STEPS * _BATCH, 28, 28, 1), "float32")
    batches = ArrayBatches(x, rng.integers(0, 10, len(x)), batch_size=_BATCH, shuffle=False)
    teacher, student = _net(1), _net(0)
    model: Any = student
    if case == "cache":
        if ours:
            cache = TeacherCache.write(teacher, batches, folder / "cache")
            model, batches = Distiller(student=student, teacher=cache), cache.join(batches)
    elif ours:
        hints = [FeatureDistillation(teacher_layer="hidden", student_layer="hidden")] * (case == "features")
        model = Distiller(student=student, teacher=teacher, losses=[LogitsDistillation(), *hints])
    else:
        theirs = keras.distillation
        losses = [theirs.LogitsDistillation(temperature=2.0, loss=keras.losses.KLDivergence())]
        if case == "features":  # It joins layers of the same width only, so both models have that.
            losses.append(theirs.FeatureDistillation(teacher_layer_name="hidden", student_layer_name="hidden"))
        model = theirs.Distiller(teacher=teacher, student=student, distillation_losses=losses)
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return seconds_of_a_step(model, [], _STEPS, batches)


def _net(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    convolutions = (
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(32, 5, activation="relu"),
    )
    dense = layers.Dense(64, activation="relu", name="hidden"), layers.Dense(10)
    return keras.Sequential([keras.Input((28, 28, 1)), *convolutions, layers.MaxPooling2D(2), layers.Flatten(), *dense])


def memory(tokens: int = 2048, width: int = 256, classes: int = 32_000) -> None:
    """Measures the peak memory of `linear_distillation_loss` and its gradients, against the loss of whole logits.

    Each runs in a process of its own, once; the peak is that of the process beyond what it held before.

    Args:
        tokens: how many rows there are.
        width: width of both models' hidden states.
        classes: size of the vocabulary.
    """
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for name in ("chunked", "whole"):
            command = [
                sys.executable,
                "-m",
                "benchmarks._linear_loss",
                name,
                folder,
                *map(str, (tokens, width, classes)),
            ]
            subprocess.run(command, check=True, cwd=Path(__file__).parents[1], env=os.environ)
            peaks[name] = json.loads((Path(folder) / f"{name}.json").read_text())["megabytes"]
        found = {name: np.load(Path(folder) / f"{name}.npz") for name in peaks}
        differences = [
            float(abs(found["chunked"][part] - found["whole"][part]).max() / abs(found["whole"][part]).max())
            for part in found["whole"].files
        ]
    row: dict[str, Any] = {"tokens": tokens, "width": width, "classes": classes}
    row |= {f"{name}_mb": round(megabytes) for name, megabytes in peaks.items()}
    row |= {"ratio": round(peaks["chunked"] / peaks["whole"], 3), "largest_difference": f"{max(differences):.1e}"}
    append_row("distillation_memory", environment(), {**row, "bar": 0.35})


def labels(fashion: Path, seeds: int = 5, epochs: int = 5) -> None:
    """Measures what a student with 1,000 labels of Fashion-MNIST gains by a teacher for the rest.

    The plain student trains on the 1,000 images for as many steps. Each student's learning rate was chosen among .001,
    .0025, .005, .01, .02, .04 and .08 by one pair on JAX, of another seed: .04 was the best of both.

    Args:
        fashion: folder with the four IDX files.
        seeds: how many pairs of students.
        epochs: passes of the distilled student over the 60,000 images.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--data", str(fashion), "--labelled", "1000", "--batch-size", "128", "--seeds", str(seeds)]
        options += ["--epochs", str(epochs), "--teacher-epochs", "8", "--run-directory", folder]
        options += ["--student-learning-rate", "0.04"]
        subprocess.run([sys.executable, str(_APP), *options], check=True, stdout=sys.stderr)
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
    means = {
        name: round(sum(each["accuracy"] for each in found) / len(found), 4)
        for name, found in metrics["models"].items()
    }
    gain = metrics["gain"]
    row = {"labelled": 1000, "steps": metrics["steps_of_a_student"], "seeds": seeds, **means}
    error = gain["standard_error"]
    row |= {"gain": round(gain["mean"], 4), "standard_error": round(error, 4) if error else None}
    append_row("distillation_labels", environment(), {**row, "met": bool(error) and gain["mean"] > 2 * error})
