"""Claim: what checkpoints within an epoch cost a step, as a ratio to the same run without them.

Runs of models that are alike, with 10 MB of weights and optimizer slots, on the same batches, in fits of one epoch that
take turns: with a checkpoint every 50 steps, without, and without again; the first fits, which compile, are not timed.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from benchmarks._paired import ratios
from benchmarks._results import append_row
from benchmarks.fit_overhead import transformer
from kerasblocks.data import ArrayBatches
from kerasblocks.training import Run, environment

Case = Literal["mlp", "transformer"]
_STEPS = 102
_FIRST = 2  # steps of an epoch before the clock runs
_BATCH: dict[Case, int] = {"mlp": 64, "transformer": 12}
_WIDTH: dict[Case, int] = {"mlp": 512, "transformer": 176}


def main(cases: tuple[Case, ...] = ("mlp", "transformer"), blocks: int = 15, every_steps: int = 50) -> None:
    """Measures the time of a step of a run with and without checkpoints.

    Args:
        cases: three dense layers, whose steps are short; a transformer of Keras's own layers.
        blocks: how many paired blocks, a block being an epoch of 100 steps.
        every_steps: steps from one checkpoint to the next.
    """
    for case in cases:
        append_row("checkpoint_overhead", environment(), _compare(case, blocks, every_steps))


def _compare(case: Case, blocks: int, every_steps: int) -> dict[str, Any]:
    fits = {"ours": _fit(case, every_steps), "other": _fit(case, None), "again": _fit(case, None)}
    times: dict[str, list[float]] = {name: [] for name in fits}
    for number in range(-1, blocks):
        for name in list(fits) if number % 2 else reversed(list(fits)):
            seconds = fits[name]()
            if number >= 0:  # The first fits compile.
                times[name].append(seconds)
    facts = {"case": case, "every_steps": every_steps, "megabytes": round(_bytes(_model(case)) / 1e6, 1)}
    return {**facts, **ratios(times), "steps_a_block": _STEPS - _FIRST}


def _fit(case: Case, every_steps: int | None) -> Callable[[], float]:
    """Returns a function that runs an epoch in a folder of its own and returns the seconds of a step."""
    model = _model(case)
    rng = np.random.default_rng(0)
    count = _STEPS * _BATCH[case]
    tokens = rng.integers(0, 65, (count, 65))
    data: dict[Case, tuple[Any, Any]] = {
        "mlp": (rng.random((count, _WIDTH["mlp"]), "float32"), rng.integers(0, 10, count)),
        "transformer": (tokens[:, :-1], tokens[:, 1:]),
    }
    batches = ArrayBatches(*data[case], batch_size=_BATCH[case], shuffle=False)

    def seconds() -> float:
        marks: list[float] = []
        clock = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: marks.append(time.perf_counter()) if batch == _FIRST else None,
            on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter()),
        )
        with tempfile.TemporaryDirectory() as folder:
            Run(folder, every_steps=every_steps).fit(model, batches, epochs=1, callbacks=[clock], verbose=0)
        return (marks[1] - marks[0]) / (_STEPS - _FIRST)

    return seconds


def _model(case: Case) -> keras.Model:
    width = _WIDTH[case]
    if case == "mlp":
        dense = [keras.layers.Dense(width, activation="relu") for _ in range(3)]
        model = keras.Sequential([keras.Input((width,)), *dense, keras.layers.Dense(10)])
    else:
        model = transformer(width)
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


def _bytes(model: keras.Model) -> int:
    return sum(variable.numpy().nbytes for variable in [*model.variables, *model.optimizer.variables])
