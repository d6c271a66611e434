"""Claim: what the callbacks cost a step of `fit`, as a ratio to the same fit without them.

Each case trains models that are alike on the same batches, in fits of one epoch that take turns: with one set of
callbacks, with another, without, and without again; the first fits, which compile, are not timed.
"""

from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from benchmarks._fits import FIRST, seconds_of_a_step, take_turns
from benchmarks._paired import ratios
from benchmarks._results import append_row
from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.models import lenet5
from kerasblocks.training import environment

Case = Literal["lenet5", "transformer"]
_STEPS: dict[Case, int] = {"lenet5": 102, "transformer": 62}
_BATCH: dict[Case, int] = {"lenet5": 128, "transformer": 12}
_WIDTH, _LENGTH, _TOKENS = 128, 64, 65


def main(cases: tuple[Case, ...] = ("lenet5", "transformer"), blocks: int = 15) -> None:
    """Measures the time of a step of fit with and without the callbacks.

    Args:
        cases: LeNet-5, or a transformer of Keras's own layers (2 blocks, width 128, 64 tokens).
        blocks: how many paired blocks, a block being an epoch.
    """
    for case in cases:
        for name, found in _compare(case, blocks).items():
            append_row("fit_overhead", environment(), {"case": case, "callbacks": name, **found})


def _compare(case: Case, blocks: int) -> dict[str, dict[str, float]]:
    """Returns for each set of callbacks what `_paired.ratios` does, of seconds of a step."""
    # A model each, so that all but the first fit of each find their step compiled.
    fits = {
        "none": _fit(case, []),
        "none again": _fit(case, []),
        "all three": _fit(case, [GradientNormLogger(), WarmupCosine(), TerminateOnNaN()]),
        "GradientNormLogger and WarmupCosine": _fit(case, [GradientNormLogger(), WarmupCosine()]),
        "TerminateOnNaN": _fit(case, [TerminateOnNaN()]),
        "keras.callbacks.TerminateOnNaN": _fit(case, [keras.callbacks.TerminateOnNaN()]),
    }
    times = take_turns(fits, blocks)
    plain = {"other": times.pop("none"), "again": times.pop("none again")}
    steps = _STEPS[case] - FIRST
    return {name: {**ratios({"ours": ours, **plain}), "steps_a_block": steps} for name, ours in times.items()}


def _fit(case: Case, callbacks: list[Any]) -> Callable[[], float]:
    """Returns a function that fits for an epoch and returns the seconds of a step."""
    model, x, y = _task(case)
    return seconds_of_a_step(model, callbacks, _STEPS[case], x, y, batch_size=_BATCH[case], shuffle=False)


def _task(case: Case) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    count = _STEPS[case] * _BATCH[case]
    if case == "lenet5":
        model = lenet5((32, 32, 1), 10, seed=0)
        data: tuple[Any, Any] = rng.random((count, 32, 32, 1), "float32"), rng.integers(0, 10, count)
    else:
        model = transformer(_WIDTH)
        tokens = rng.integers(0, _TOKENS, (count, _LENGTH + 1))
        data = tokens[:, :-1], tokens[:, 1:]
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, *data


def transformer(width: int) -> keras.Model:
    """Returns a language model of 2 blocks and 64 tokens, made of Keras's own layers."""
    layers = keras.layers
    tokens = keras.Input((_LENGTH,), dtype="int32")
    h = layers.Embedding(_TOKENS, width)(tokens)
    for _ in range(2):
        normal = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(4, width // 4)(normal, normal, use_causal_mask=True)])
        wide = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(width)(wide)])
    return keras.Model(tokens, layers.Dense(_TOKENS)(layers.LayerNormalization()(h)))
