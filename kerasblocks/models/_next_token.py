"""Which token comes next: the likeliest, or one that is drawn from all or from the likelier ones."""

import dataclasses
from typing import Any

import keras

from kerasblocks._arguments import as_number


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits.

    Args:
        temperature: what the logits are divided by, 0 or more; 0 takes the likeliest token.
        top_k: draw among so many of the likeliest; None for all.
        top_p: draw among the fewest whose probabilities have a sum of at least so much; None for all.
        vocabulary: how many tokens there are.

    Raises:
        ValueError: a temperature below 0, a `top_p` outside 0 < top_p ≤ 1.
    """

    temperature: float
    top_k: int | None
    top_p: float | None
    vocabulary: int

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if as_number("temperature", self.temperature) < 0:
            raise ValueError(f"temperature must be 0 or more; got {self.temperature!r}.")
        if self.top_p is not None and not 0 < as_number("top_p", self.top_p) <= 1:
            raise ValueError(f"top_p must lie in 0 < top_p <= 1; got {self.top_p!r}.")

    def token(self, logits: Any, uniform: Any) -> Any:
        """Returns a token for each row of logits, `(batch, vocabulary)`, by numbers from 0 to below 1, `(batch,)`."""
        ops = keras.ops
        if self.temperature == 0 or self.top_k == 1:
            return ops.cast(ops.argmax(logits, axis=-1), "int32")
        logits, order = logits / self.temperature, None
        if self.top_k is not None or self.top_p is not None:
            logits, order = ops.top_k(logits, min(self.top_k or self.vocabulary, self.vocabulary))
        p = ops.softmax(logits, axis=-1)
        if self.top_p is not None:
            p = ops.where(ops.cumsum(p, axis=-1) - p < self.top_p, p, 0.0)
        up_to = ops.cumsum(p, axis=-1)
        reached = ops.logical_and(up_to > uniform[:, None] * up_to[:, -1:], p > 0)
        place = ops.argmax(ops.cast(reached, "int32"), axis=-1)  # the first
        if order is not None:
            place = ops.take_along_axis(order, ops.cast(place, order.dtype)[:, None], axis=-1)[:, 0]
        return ops.cast(place, "int32")
