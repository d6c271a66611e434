"""Claim: with the rate that a sweep suggests, an app's training ends within 10 % of the loss of the best of a grid.

The grid has the half decades from 1e-5 to 3e-2; the loss is the mean of the last epoch of the app's default steps.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from benchmarks._results import append_row
from kerasblocks.callbacks import WarmupCosine
from kerasblocks.data import (
    ArrayBatches,
    AugmentedBatches,
    ImageBatches,
    TokenBatches,
    colour_components,
    load_images,
    load_text,
)
from kerasblocks.diagnostics import learning_rate_sweep
from kerasblocks.models import alexnet, lenet5, transformer_lm
from kerasblocks.ops import smoothed_cross_entropy
from kerasblocks.training import environment, exclude_vectors_from_weight_decay

_GRID = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_WITHIN = 1.1


@dataclasses.dataclass(frozen=True)
class Task:
    """What an app trains by default: `model(rate)` is compiled, `batches` are those of an epoch."""

    model: Callable[[float], Any]
    batches: Any
    epochs: int
    warmup: float

    def loss(self, rate: float) -> float:
        """Trains with a peak rate, and returns the loss of the last epoch."""
        history = self.model(rate).fit(
            self.batches, epochs=self.epochs, shuffle=False, verbose=0, callbacks=[WarmupCosine(warmup=self.warmup)]
        )
        return float(history.history["loss"][-1])


def main(
    tasks: Sequence[Literal["lenet5", "transformer", "alexnet"]] = ("lenet5", "transformer", "alexnet"),
    seeds: int = 3,
) -> None:
    """Trains each task with the suggested rate and with those of the grid.

    Args:
        tasks: which networks, with the data and options that their apps have by default.
        seeds: how many seeds, from 0.
    """
    makers = {"lenet5": _lenet5, "transformer": _transformer, "alexnet": _alexnet}
    for name in tasks:
        suggestions, suggested, grid = [], [], {rate: list[float]() for rate in _GRID}
        for seed in range(seeds):
            keras.utils.set_random_seed(seed)
            task = makers[name](seed)
            rate = learning_rate_sweep(task.model(1e-3), task.batches).suggestion
            if rate is None:
                raise RuntimeError(f"{name}, seed {seed}: the sweep suggests no rate.")
            suggestions.append(rate)
            suggested.append(task.loss(rate))
            for each in _GRID:
                grid[each].append(task.loss(each))
            print(name, seed, rate, suggested[-1], {each: losses[-1] for each, losses in grid.items()}, flush=True)
        means = {rate: statistics.mean(losses) for rate, losses in grid.items()}
        best = min((rate for rate in _GRID if means[rate] == means[rate]), key=lambda rate: means[rate])
        ratio = statistics.mean(suggested) / means[best]
        row: dict[str, Any] = {"task": name, "n": seeds, "suggestions": " ".join(f"{rate:.2g}" for rate in suggestions)}
        row |= {"loss": round(statistics.mean(suggested), 4), "best_of_grid": best, "its_loss": round(means[best], 4)}
        append_row(
            "suggested_rate", environment(), {**row, "ratio": round(ratio, 3), "bar": _WITHIN, "met": ratio <= _WITHIN}
        )


def _lenet5(seed: int) -> Task:
    data = load_images("digits", image_size=32)
    mean, spread = float(data.x_train.mean() / 255), float(data.x_train.std() / 255)

    def model(rate: float) -> Any:
        network = lenet5(data.image_shape, data.num_classes, seed=seed)
        layers = [keras.Input(data.image_shape), keras.layers.Rescaling(1 / spread, -mean / spread), network]
        return _compiled(
            keras.Sequential(layers),
            keras.optimizers.AdamW(rate, weight_decay=0.3),
            lambda y, logits: smoothed_cross_entropy(y, logits, 0.1),
        )

    return Task(model, ArrayBatches(data.x_train, data.y_train, batch_size=32, seed=seed), epochs=40, warmup=0.05)


def _transformer(seed: int) -> Task:
    text = load_text("topics")
    batches = TokenBatches(text.train, context=64, batch_size=12, steps=250, seed=seed)

    def model(rate: float) -> Any:
        return _compiled(
            transformer_lm("tiny", vocabulary_size=text.tokenizer.vocabulary_size, seed=seed),
            keras.optimizers.AdamW(rate, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    return Task(model, batches, epochs=4, warmup=0.05)


def _alexnet(seed: int) -> Task:
    data = load_images("photos", channels=3)
    options: dict[str, Any] = {"batch_size": 32, "image_size": 63, "random_crop": True, "mirror": True}
    images = ImageBatches(data.x_train, data.y_train, num_classes=data.num_classes, seed=seed, **options)
    mean = [-4.0 * float(each) for each in colour_components(data.x_train).mean]

    def model(rate: float) -> Any:
        network = alexnet((63, 63, 3), data.num_classes, width=0.25, seed=seed)
        return _compiled(
            keras.Sequential([keras.Input((63, 63, 3)), keras.layers.Rescaling(4.0, mean), network]),
            keras.optimizers.AdamW(rate, weight_decay=0.05),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        )

    return Task(model, AugmentedBatches(images, "mixup", seed=seed), epochs=24, warmup=0.1)


def _compiled(model: Any, optimizer: Any, loss: Any) -> Any:
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    model.compile(optimizer, loss)
    return model
