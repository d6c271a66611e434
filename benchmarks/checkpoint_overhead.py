"""Claim: what checkpoints within an epoch cost a step, as a ratio to the same run without them.

Two runs of one model each, on the same batches, in fits of one epoch that take turns: with a checkpoint every 50 steps,
without, and without again; the first fits, which compile, are not timed.
"""

import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np

from benchmarks._paired import ratios
from benchmarks._results import append_row
from kerasblocks.data import ArrayBatches
from kerasblocks.training import Run, environment

_STEPS = 202
_FIRST = 2  # steps of an epoch before the clock runs
_BATCH = 64
_WIDTH = 512  # 10 MB of weights and AdamW's slots


def main(blocks: int = 15, every_steps: int = 50) -> None:
    """Measures the time of a step of a run with and without checkpoints.

    Args:
        blocks: how many paired blocks, a block being an epoch of 200 steps.
        every_steps: steps from one checkpoint to the next.
    """
    fits = {"ours": _fit(every_steps), "other": _fit(None), "again": _fit(None)}
    times: dict[str, list[float]] = {name: [] for name in fits}
    for number in range(-1, blocks):
        for name in list(fits) if number % 2 else reversed(list(fits)):
            seconds = fits[name]()
            if number >= 0:  # The first fits compile.
                times[name].append(seconds)
    megabytes = round(_bytes(_model()) / 1e6, 1)
    row = {"every_steps": every_steps, "megabytes": megabytes, **ratios(times), "steps_a_block": _STEPS - _FIRST}
    append_row("checkpoint_overhead", environment(), row)


def _fit(every_steps: int | None) -> Callable[[], float]:
    """Returns a function that runs an epoch in a folder of its own and returns the seconds of a step."""
    model = _model()
    rng = np.random.default_rng(0)
    x, y = rng.random((_STEPS * _BATCH, _WIDTH), "float32"), rng.integers(0, 10, _STEPS * _BATCH)
    batches = ArrayBatches(x, y, batch_size=_BATCH, shuffle=False)

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


def _model() -> keras.Model:
    dense = [keras.layers.Dense(_WIDTH, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((_WIDTH,)), *dense, keras.layers.Dense(10)])
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


def _bytes(model: keras.Model) -> int:
    return sum(variable.numpy().nbytes for variable in [*model.variables, *model.optimizer.variables])
