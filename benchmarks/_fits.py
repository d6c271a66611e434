"""Times of a step of `fit`: fits of one epoch that take turns."""

import time
from collections.abc import Callable
from typing import Any

import keras

FIRST = 2  # steps of an epoch before the clock runs


def seconds_of_a_step(model: Any, callbacks: list[Any], steps: int, *data: Any, **options: Any) -> Callable[[], float]:
    """Returns a function that fits the compiled model for an epoch of `steps` and returns the seconds of a step."""

    def seconds() -> float:
        marks: list[float] = []
        # From the first steps' end on: what a fit does once, and tracing, is not a step's. To the epoch's end, where
        # the device has done them all.
        clock = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: marks.append(time.perf_counter()) if batch == FIRST else None,
            on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter()),
        )
        model.fit(*data, verbose=0, callbacks=[*callbacks, clock], **options)
        return (marks[1] - marks[0]) / (steps - FIRST)

    return seconds


def take_turns(fits: dict[str, Callable[[], float]], blocks: int) -> dict[str, list[float]]:
    """Returns the seconds of each fit, one of each a block, in an order that changes from block to block."""
    times: dict[str, list[float]] = {name: [] for name in fits}
    names = list(fits)
    for number in range(-1, blocks):
        first = number % len(names)
        order = [*names[first:], *names[:first]]
        for name in order if number % 2 else reversed(order):
            seconds = fits[name]()
            if number >= 0:  # The first fits compile.
                times[name].append(seconds)
    return times
