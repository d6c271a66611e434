"""Which token comes next: the likeliest, or one that is drawn from all or from the likelier ones."""

import dataclasses
from typing import Any

import keras
import numpy as np

from kerasblocks._arguments import as_integer, as_number


def sampling_of(temperature: Any, top_k: Any, top_p: Any, vocabulary: int) -> tuple["Sampling", np.ndarray]:
    """Returns how tokens are drawn, and the numbers by which.

    Args:
        temperature: what the logits are divided by, 0 or more; 0 takes the likeliest token.
        top_k: draw among so many of the likeliest; None for all.
        top_p: draw among the fewest whose probabilities have a sum of at least so much; None for all.
        vocabulary: how many tokens there are.

    Raises:
        ValueError: a temperature below 0, a `top_k` below 1, a `top_p` outside 0 < top_p ≤ 1.
    """
    if as_number("temperature", temperature) < 0:
        raise ValueError(f"temperature must be 0 or more; got {temperature!r}.")
    if top_k is not None:
        top_k = min(as_integer("top_k", top_k, least=1), vocabulary)
    if top_p is not None and not 0 < as_number("top_p", top_p) <= 1:
        raise ValueError(f"top_p must lie in 0 < top_p <= 1; got {top_p!r}.")
    greedy = temperature == 0 or top_k == 1
    sampling = Sampling(greedy, None if greedy else top_k, top_p is not None and not greedy)
    return sampling, np.array([temperature or 1.0, 1.0 if top_p is None else top_p], "float32")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits, as far as a program that draws is compiled for it.

    Attributes:
        greedy: whether the likeliest token is taken.
        among: how many of the likeliest tokens are drawn among, None for all.
        limited: whether it is among the fewest of enough probability.
    """

    greedy: bool
    among: int | None
    limited: bool

    def token(self, logits: Any, uniform: Any, numbers: Any) -> Any:
        """Returns a token for each row of logits.

        Args:
            logits: `(batch, vocabulary)`.
            uniform: numbers from 0 to below 1, `(batch,)`.
            numbers: temperature, and the probability that is enough.
        """
        ops = keras.ops
        if self.greedy:
            return ops.cast(ops.argmax(logits, axis=-1), "int32")
        # Less the largest before it is divided, for a low temperature makes infinite numbers of large ones.
        p = ops.softmax((logits - ops.max(logits, axis=-1, keepdims=True)) / numbers[0], axis=-1)
        order = None
        if self.among is not None or self.limited:
            p, order = ops.top_k(p, self.among or p.shape[-1])
        if self.limited:
            p = ops.where(ops.cumsum(p, axis=-1) - p < numbers[1], p, 0.0)
        up_to = ops.cumsum(p, axis=-1)
        reached = ops.logical_and(up_to > uniform[:, None] * up_to[:, -1:], p > 0)
        place = ops.argmax(ops.cast(reached, "int32"), axis=-1)  # the first
        if order is not None:
            place = ops.take_along_axis(order, ops.cast(place, order.dtype)[:, None], axis=-1)[:, 0]
        return ops.cast(place, "int32")
