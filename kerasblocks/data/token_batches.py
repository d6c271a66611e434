"""Batches of windows into a text, drawn by seed, epoch and index alone; Keras has none for language models."""

import functools
from typing import Any

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._digest import digest_of
from kerasblocks.data._epoch_batches import EpochBatches


class TokenBatches(EpochBatches):
    """Windows of a text from places drawn at random, each with the tokens that follow.

    Of batch `index` in epoch `epoch` the windows begin at r mod (tokens − context), where r are the first raw 64-bit
    outputs of NumPy's PCG64 seeded with `SeedSequence([seed, epoch, index])`: the same on every backend and machine.
    In `fit` the epoch is the one that `fit` counts.

    Args:
        tokens: array of whole numbers of shape `(tokens,)`, also one that is memory-mapped.
        context: tokens in a window.
        batch_size: windows in a batch.
        steps: batches in an epoch.
        seed: non-negative integer.

    Attributes:
        epoch: the epoch whose batches `batches[index]` gives; `fit` sets it.

    Raises:
        ValueError: what are no tokens; not more of them than `context`; numbers below 1, a negative seed.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.data import TokenBatches
    >>> batches = TokenBatches(np.arange(100), context=4, batch_size=2, steps=10, seed=0)
    >>> x, y = batches.batch(epoch=3, index=7)
    >>> x.shape, np.array_equal(x + 1, y)
    ((2, 4), True)
    """

    shuffle = True
    in_order = "make TokenWindows of the tokens"

    def __init__(self, tokens: Any, *, context: int, batch_size: int, steps: int, seed: int = 0) -> None:
        super().__init__()
        self.context = as_integer("context", context, least=1)
        self.batch_size = as_integer("batch_size", batch_size, least=1)
        self.steps = as_integer("steps", steps, least=1)
        self.seed = as_integer("seed", seed, least=0)
        self._tokens = _as_tokens(tokens, self.context + 1, f"a context of {self.context} and the token after it")

    def __len__(self) -> int:
        return self.steps

    def batch(self, epoch: int, index: int) -> tuple[Any, ...]:
        """Returns `(x, y)`, int32 of shape `(batch_size, context)`; y are the tokens after those of x.

        Raises:
            IndexError: there is no such batch in an epoch.
        """
        entropy = [self.seed, as_integer("epoch", epoch, least=0), self._place(index)]
        bits = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(self.batch_size)
        starts = (bits % np.uint64(len(self._tokens) - self.context)).astype("int64")
        windows = np.stack([self._tokens[start : start + self.context + 1] for start in starts]).astype("int32")
        return windows[:, :-1], windows[:, 1:]

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the batches are made of: the settings and a SHA-256 of the tokens, which takes a pass over them."""
        names = ("context", "batch_size", "steps", "seed")
        return {name: getattr(self, name) for name in names} | {"tokens": digest_of(self._tokens)}


class TokenWindows(EpochBatches):
    """A whole text, cut into windows in order: each token but the first is predicted once.

    The last window, and as many as fill the last batch, are padded with tokens of weight 0; the weights of the others
    are such that the mean over all windows, which `evaluate` takes, is the mean over the tokens that are predicted.
    Metrics that count must be compiled as `weighted_metrics`.

    Args:
        tokens: array of whole numbers of shape `(tokens,)`, two at least.
        context: tokens in a window.
        batch_size: windows in a batch.

    Attributes:
        num_predicted: how many tokens are predicted.

    Raises:
        ValueError: what are no tokens; fewer than two; numbers below 1.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.data import TokenWindows
    >>> windows = TokenWindows(np.arange(6), context=3, batch_size=2)
    >>> x, y, weight = windows.batch(0, 0)
    >>> y.tolist(), (weight > 0).tolist(), round(float(weight.mean()), 4)
    ([[1, 2, 3], [4, 5, 0]], [[True, True, True], [True, True, False]], 1.0)
    """

    shuffle = False

    def __init__(self, tokens: Any, *, context: int, batch_size: int) -> None:
        super().__init__()
        self.context = as_integer("context", context, least=1)
        self.batch_size = as_integer("batch_size", batch_size, least=1)
        self._tokens = _as_tokens(tokens, 2, "one to predict and one before it")
        self.num_predicted = len(self._tokens) - 1

    def __len__(self) -> int:
        return -(-self.num_predicted // (self.context * self.batch_size))

    def batch(self, epoch: int, index: int) -> tuple[Any, ...]:
        """Returns `(x, y, weight)`, each of shape `(batch_size, context)`; the same in each epoch.

        Raises:
            IndexError: there is no such batch.
        """
        as_integer("epoch", epoch, least=0)
        size = self.context * self.batch_size
        start = self._place(index) * size
        found = np.zeros(size + 1, "int32")
        taken = np.asarray(self._tokens[start : start + size + 1])
        found[: len(taken)] = taken
        weight = np.zeros(size, "float32")
        weight[: len(taken) - 1] = len(self) * size / self.num_predicted
        return tuple(part.reshape(self.batch_size, self.context) for part in (found[:-1], found[1:], weight))

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the windows are made of: the settings and a SHA-256 of the tokens, which takes a pass over them."""
        names = ("context", "batch_size")
        return {name: getattr(self, name) for name in names} | {"tokens": digest_of(self._tokens)}


def _as_tokens(tokens: Any, least: int, told: str) -> np.ndarray:
    array = tokens if isinstance(tokens, np.ndarray) else np.asarray(tokens)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"tokens must be whole numbers in a row; got an array of shape {array.shape} and dtype {array.dtype}."
        )
    if len(array) < least:
        raise ValueError(f"There must be at least {least} tokens, {told}; got {len(array)}.")
    return array
