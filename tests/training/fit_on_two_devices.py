"""Fits on two devices, then on one, and writes what each process has seen to a JSON file in the given folder."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from arrays import random

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches, TokenBatches, TokenWindows
from kerasblocks.distillation import Distiller, FeatureDistillation, LogitsDistillation
from kerasblocks.models import transformer_lm
from kerasblocks.training import Replicas, Run, current_replicas, data_parallel

ROWS, BATCH, EPOCHS = 77, 16, 4  # The last batch of an epoch has 13 rows, which two devices cannot share evenly.
X, Y = random((ROWS, 5)), (random((ROWS, 1), seed=1) > 0).astype("float32")


class Course(keras.callbacks.Callback):
    """Remembers the losses, and sends the last process a signal before a step."""

    def __init__(self, signal_at: int | None) -> None:
        super().__init__()
        self.signal_at, self.losses, self.steps = signal_at, [], 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        replicas = current_replicas()
        if self.steps == self.signal_at and replicas.process == replicas.processes - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(float(logs["loss"]))


class Writer(keras.callbacks.Callback):
    """Counts the epochs whose ends it is told."""

    only_writes, epochs = True, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1


def fit(
    folder: Path,
    *,
    bare: bool = False,
    in_full: bool = False,
    embedded: bool = False,
    optimizer: Any = None,
    reduction: str = "sum_over_batch_size",
    noisy: bool = False,
    distilled: bool = False,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    signal_at: int | None = None,
    x: np.ndarray = X,
    **options: Any,
) -> dict[str, Any]:
    """Returns what a fit of a small model has seen."""
    keras.utils.set_random_seed(0)
    random_layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.GaussianNoise(0.1)]
    layers = [keras.layers.Dense(7, "tanh", kernel_regularizer="l2"), *(random_layers if noisy else [])]
    if embedded:
        layers, x = [keras.layers.Embedding(4, 3), keras.layers.Flatten()], np.digitize(x, [-1, 0, 1])
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(1, dtype="float32")])
    if distilled:
        teacher = keras.Sequential([keras.Input((5,)), keras.layers.Dense(9, "tanh"), keras.layers.Dense(1)])
        hint = FeatureDistillation(teacher_layer=teacher.layers[0].name, student_layer=layers[0].name)
        alpha = keras.optimizers.schedules.CosineDecay(0.9, 20)
        model = Distiller(student=model, teacher=teacher, alpha=alpha, losses=[LogitsDistillation(), hint])
    metrics = [] if bare else ["accuracy"]
    if in_full:
        metrics.append(keras.metrics.AUC(from_logits=True, name="auc"))
    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=reduction)
    optimizer = keras.optimizers.AdamW(0.05, global_clipnorm=0.2, **options) if optimizer is None else optimizer
    model.compile(optimizer, loss, metrics=metrics)
    course, norms, guard = Course(signal_at), GradientNormLogger(log_dir=folder / "norms"), TerminateOnNaN()
    ours = [] if bare else [WarmupCosine(warmup=3), norms, guard]
    writers = [keras.callbacks.CSVLogger(str(folder / "log.csv")), writer := Writer()]
    batches = ArrayBatches(x, Y, random((ROWS,), seed=2) ** 2, batch_size=batch, seed=1)
    found: dict[str, Any] = {"left": 0}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder, every_steps=3, best="val_loss" if in_full or noisy else "loss")
        history = run.fit(
            model,
            batches,
            epochs=epochs,
            verbose=0,
            validation_data=(X[:33], Y[:33]) if in_full or noisy else None,
            callbacks=[course, *ours, *writers],
        )
    except SystemExit as leaving:
        return {"left": leaving.code}
    except ValueError as error:
        return {"refused": str(error)}
    found |= {"losses": course.losses, "history": history.history, "steps": course.steps}
    found["written"] = writer.epochs
    found["norms"] = [] if bare else norms.history["grad_norm"]
    found["weights"] = [weight.tolist() for weight in model.get_weights()]
    found["stopped"] = None if guard.report is None or bare else guard.report["step"]
    found["inputs"] = [] if guard.report is None or bare else guard.report["inputs"]
    return found


def language(folder: Path) -> dict[str, Any]:
    """Returns what a fit of a small transformer has seen."""
    tokens = np.random.default_rng(0).integers(0, 11, 300)
    model = transformer_lm(vocabulary_size=11, num_layers=1, num_heads=2, num_key_value_heads=1, width=8, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.02, global_clipnorm=0.5), loss)
    course = Course(None)
    history = Run(folder).fit(
        model,
        TokenBatches(tokens[:200], context=6, batch_size=5, steps=10),
        epochs=2,
        verbose=0,
        validation_data=TokenWindows(tokens[200:], context=6, batch_size=4),
        callbacks=[course, WarmupCosine(), GradientNormLogger(per_variable=False), TerminateOnNaN()],
    )
    return {"losses": course.losses, "history": history.history}


def fits(folder: Path, replicas: Replicas) -> dict[str, Any]:
    """Returns what the fits of all cases have seen."""
    found = {
        "plain": fit(folder / "plain", in_full=True),
        "distilled": fit(folder / "distilled", distilled=True),
        "language": language(folder / "language"),
        "accumulated": fit(folder / "accumulated", gradient_accumulation_steps=2, epochs=2),
    }
    keras.config.set_dtype_policy("mixed_float16")
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=64)
    found["scaled"] = fit(folder / "scaled", bare=True, optimizer=scaled, epochs=1)
    keras.config.set_dtype_policy("float32")
    found["embedded"] = fit(folder / "embedded", bare=True, embedded=True, epochs=2)
    if replicas.count > 1:
        found["sum"] = fit(folder / "sum", reduction="sum", epochs=1)
        keras.config.set_dtype_policy("mixed_float16")
        bad = X.copy()
        bad[0] = np.nan
        found["bad"] = fit(folder / "bad", x=bad)
        keras.config.set_dtype_policy("float32")
        found["small"] = fit(folder / "small", batch=19)  # The last batch has one row.
        found["noisy"] = fit(folder / "noisy", noisy=True, epochs=2)
        found["left"] = fit(folder / "left", noisy=True, epochs=2, signal_at=8)
        found["resumed"] = fit(folder / "left", noisy=True, epochs=2)
    return found


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with data_parallel(2) as replicas:
        found = {"replicas": vars(replicas), "together": fits(out / "together", replicas)}
    if keras.backend.backend() == "tensorflow":
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        with data_parallel(2):
            try:
                Run(out / "outside").fit(model, ArrayBatches(X, Y, batch_size=BATCH), epochs=1, verbose=0)
            except ValueError as error:
                found["outside"] = str(error)
    if replicas.is_first:
        found["alone"] = fits(out / "alone", current_replicas())
        found["taken over"] = fit(out / "together" / "plain", in_full=True)  # The run is over; its end is there again.
    (out / f"{replicas.process}.json").write_text(json.dumps(found))
