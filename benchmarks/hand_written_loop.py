"""Claim: an app's training is as fast as a loop that is written by hand for the same network in the same framework.

Both take the same batches and begin with the same weights; without dropout they must have the same losses, or nothing
is measured. They take turns in epochs, whose first steps are not timed: the app's `fit` with its callbacks, Keras's
`fit` without any, and the loop, which has the schedule, the metrics and the clipping of the app, but looks neither at
gradient norms nor for NaN and saves nothing.
"""

import dataclasses
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from benchmarks._fits import FIRST, seconds_of_a_step, take_turns
from benchmarks._loop_settings import Case, LoopSettings
from benchmarks._paired import ratios
from benchmarks._results import append_row
from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches, TokenBatches
from kerasblocks.models import alexnet, lenet5, transformer_lm
from kerasblocks.ops import smoothed_cross_entropy
from kerasblocks.training import environment, exclude_vectors_from_weight_decay

_STEPS, _VOCABULARY = 62, 65
_COMPARED, _TOLERANCE = 8, 1e-3  # steps whose losses must be alike, and how much
_SETTINGS: dict[Case, LoopSettings] = {
    "lenet5": LoopSettings("lenet5", 10_000, 100, 5e-3, 0.3, label_smoothing=0.1, scale=3.0, offset=(-1.0,)),
    "alexnet": LoopSettings(
        "alexnet", 10_000, 100, 1e-3, 0.05, label_smoothing=0.1, scale=4.0, offset=(-2.0, -1.8, -1.6), dropout=0.5
    ),
    "transformer": LoopSettings("transformer", 10_000, 100, 1e-3, 0.1, beta_2=0.99, clipnorm=1.0, accuracy=False),
}
_BATCH: dict[Case, int] = {"lenet5": 32, "alexnet": 32, "transformer": 12}


def main(
    cases: Sequence[Case] = ("lenet5", "alexnet", "transformer"), blocks: int = 15, batch_size: int | None = None
) -> None:
    """Measures the time of a step of `fit` against that of a loop written by hand.

    Args:
        cases: LeNet-5 on 32 pixels, AlexNet of a quarter of the width on 63, the transformer of nanoGPT's CPU setting.
        blocks: how many paired blocks, a block being an epoch of 62 steps.
        batch_size: samples in a step; None for the app's default.
    """
    loops = importlib.import_module(f"benchmarks._loop_{keras.backend.backend()}")
    for case in cases:
        settings, samples = _SETTINGS[case], batch_size or _BATCH[case]
        batches = _batches(case, samples)
        _check_equal(loops, settings, batches)
        callbacks = [_schedule(settings), GradientNormLogger(per_variable=False), TerminateOnNaN()]
        times = take_turns(
            {
                "app": seconds_of_a_step(_model(settings), callbacks, _STEPS, batches),
                "keras": seconds_of_a_step(_model(settings), [], _STEPS, batches),
                "other": _seconds(loops.Loop(settings, _weights(_model(settings))), batches),
                "again": _seconds(loops.Loop(settings, _weights(_model(settings))), batches),
            },
            blocks,
        )
        loop = {"other": times["other"], "again": times["again"]}
        bar = 0.8 if keras.backend.backend() == "torch" else 0.95
        for name in ("app", "keras"):
            found = ratios({"ours": times[name], **loop})
            rate, low, high = (round(1 / found[name], 3) for name in ("ratio", "ratio_p90", "ratio_p10"))
            row = {"case": case, "batch_size": samples, "fit": name, **found}
            row |= {"rate": rate, "rate_p10": low, "rate_p90": high, "bar": bar, "met": rate >= bar}
            append_row("hand_written_loop", environment(), row)


def _check_equal(loops: Any, settings: LoopSettings, batches: Any) -> None:
    """Raises `AssertionError` unless fit and the loop have the same losses, without dropout."""
    plain = dataclasses.replace(settings, dropout=0.0)
    model, means = _model(plain), list[float]()
    loop = loops.Loop(plain, _weights(model))
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: means.append(float(logs["loss"])))
    model.fit(batches, steps_per_epoch=_COMPARED, verbose=0, callbacks=[_schedule(settings), note])
    sums = np.arange(1, _COMPARED + 1) * means
    losses = loop.epoch(batches[index] for index in range(_COMPARED))
    np.testing.assert_allclose(np.diff(sums, prepend=0), losses, rtol=_TOLERANCE)


def _seconds(loop: Any, batches: Any) -> Callable[[], float]:
    """Returns a function that trains for an epoch and returns the seconds of a step, but for the first ones."""

    def seconds() -> float:
        loop.epoch(batches[index] for index in range(FIRST))
        start = time.perf_counter()
        loop.epoch(batches[index] for index in range(FIRST, _STEPS))
        return (time.perf_counter() - start) / (_STEPS - FIRST)

    return seconds


def _batches(case: Case, batch_size: int) -> Any:
    rng, count = np.random.default_rng(0), _STEPS * batch_size
    if case == "lenet5":
        return ArrayBatches(
            rng.random((count, 32, 32, 1), "float32"), rng.integers(0, 10, count), batch_size=batch_size
        )
    if case == "alexnet":
        labels = np.eye(2, dtype="float32")[rng.integers(0, 2, count)]
        return ArrayBatches(rng.random((count, 63, 63, 3), "float32"), labels, batch_size=batch_size)
    tokens = rng.integers(0, _VOCABULARY, 100_000)
    return TokenBatches(tokens, context=64, batch_size=batch_size, steps=_STEPS)


def _schedule(settings: LoopSettings) -> WarmupCosine:
    return WarmupCosine(warmup=settings.warmup_steps, total_steps=settings.steps)


def _weights(model: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]


def _model(settings: LoopSettings) -> Any:
    """Returns the app's model, compiled as the app does it."""
    loss: Any
    if settings.case == "transformer":
        model: Any = transformer_lm("tiny", vocabulary_size=_VOCABULARY, seed=0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        shape = (32, 32, 1) if settings.case == "lenet5" else (63, 63, 3)
        if settings.case == "lenet5":
            network = lenet5(shape, 10, seed=0)

            def loss(y: Any, logits: Any) -> Any:
                return smoothed_cross_entropy(y, logits, settings.label_smoothing)
        else:
            network = alexnet(shape, 2, "single", settings.dropout, width=0.25, seed=0)
            loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing)
        standardize = keras.layers.Rescaling(settings.scale, list(settings.offset))
        model = keras.Sequential([keras.Input(shape), standardize, network])
    optimizer = keras.optimizers.AdamW(
        settings.rate, weight_decay=settings.weight_decay, beta_2=settings.beta_2, global_clipnorm=settings.clipnorm
    )
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    model.compile(optimizer, loss, metrics=["accuracy"] if settings.accuracy else [])
    return model
