"""Claim: what the callbacks cost a step of `fit`, as a ratio to the same fit without them.

Each case trains the same model on the same batches, in fits of one epoch that take turns: with our callbacks, without,
and without again; the first fits, which compile, are not timed.
"""

import time
from typing import Any, Literal

import keras
import numpy as np

from benchmarks._paired import ratios
from benchmarks._results import append_row
from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.models import lenet5
from kerasblocks.training import environment

Case = Literal["lenet5", "transformer"]
_STEPS: dict[Case, int] = {"lenet5": 40, "transformer": 15}
_BATCH: dict[Case, int] = {"lenet5": 128, "transformer": 12}
_WIDTH, _LENGTH, _TOKENS = 128, 64, 65


def main(cases: tuple[Case, ...] = ("lenet5", "transformer"), blocks: int = 15) -> None:
    """Measures the time of a step of fit with and without the callbacks.

    Args:
        cases: LeNet-5, or a transformer of Keras's own layers (2 blocks, width 128, 64 tokens).
        blocks: how many paired blocks, a block being an epoch.
    """
    for case in cases:
        kinds: dict[str, list[Any]] = {
            "all three": [GradientNormLogger(), WarmupCosine(), TerminateOnNaN()],
            "GradientNormLogger and WarmupCosine": [GradientNormLogger(), WarmupCosine()],
            "TerminateOnNaN": [TerminateOnNaN()],
            "keras.callbacks.TerminateOnNaN": [keras.callbacks.TerminateOnNaN()],
        }
        for name, callbacks in kinds.items():
            row = {"case": case, "callbacks": name, **_compare(case, callbacks, blocks)}
            append_row("fit_overhead", environment(), row)


def _compare(case: Case, callbacks: list[Any], blocks: int) -> dict[str, float]:
    """Returns what `_paired.ratios` does, of seconds of a step."""
    model, x, y = _task(case)
    fits: dict[str, list[Any]] = {"ours": callbacks, "other": [], "again": []}

    def seconds(callbacks: list[Any]) -> float:
        marks: list[float] = []
        # From the first step's end on: what a fit does once, and tracing, is not a step's.
        clock = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: marks.append(time.perf_counter()) if batch == 2 else None,
            on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter()),
        )
        model.fit(x, y, batch_size=_BATCH[case], shuffle=False, verbose=0, callbacks=[*callbacks, clock])
        return (marks[1] - marks[0]) / (_STEPS[case] - 2)

    for each in fits.values():
        seconds(each)
    times: dict[str, list[float]] = {name: [] for name in fits}
    for number in range(blocks):
        for name in fits if number % 2 else reversed(fits):
            times[name].append(seconds(fits[name]))
    return {**ratios(times), "steps_a_block": _STEPS[case] - 2}


def _task(case: Case) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    count = _STEPS[case] * _BATCH[case]
    if case == "lenet5":
        model = lenet5((32, 32, 1), 10, seed=0)
        data: tuple[Any, Any] = rng.random((count, 32, 32, 1), "float32"), rng.integers(0, 10, count)
    else:
        model = _transformer()
        tokens = rng.integers(0, _TOKENS, (count, _LENGTH + 1))
        data = tokens[:, :-1], tokens[:, 1:]
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, *data


def _transformer() -> keras.Model:
    layers = keras.layers
    tokens = keras.Input((_LENGTH,), dtype="int32")
    h = layers.Embedding(_TOKENS, _WIDTH)(tokens)
    for _ in range(2):
        normal = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(4, _WIDTH // 4)(normal, normal, use_causal_mask=True)])
        wide = layers.Dense(4 * _WIDTH, activation="gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(_WIDTH)(wide)])
    return keras.Model(tokens, layers.Dense(_TOKENS)(layers.LayerNormalization()(h)))
