"""What a fit of a small model should have seen, by plain automatic differentiation outside of it."""

from typing import Any

import keras
import numpy as np
from arrays import random, to_numpy
from gradients import output_and_gradients

X, Y = random((48, 5)), random((48, 1), seed=1)
BATCH = 16


def small_model(**options: Any) -> keras.Model:
    """Returns a compiled model with the same weights at every call."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(7, activation="tanh"), keras.layers.LayerNormalization(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    model.compile(options.pop("optimizer", None) or keras.optimizers.SGD(0.1), options.pop("loss", "mse"), **options)
    return model


def norms_by_brute_force(
    model: keras.Model, optimizer: Any, steps: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Trains the model on batches in order, and returns the norms of all gradients and of each, a row a step."""
    found = []
    weights = np.ones(len(X), "float32") if weights is None else weights
    optimizer.build(model.trainable_variables)
    for step in range(steps):
        part = slice(step * BATCH % len(X), step * BATCH % len(X) + BATCH)
        x, y, weight = X[part], Y[part], weights[part, None]
        upstream = 2 * (to_numpy(model(x)) - y) * weight / y.size
        dtype = keras.backend.standardize_dtype(model(x).dtype)
        _, _, gradients = output_and_gradients(model, x, keras.ops.cast(upstream, dtype))
        gradients = [np.asarray(gradient, "float32") for gradient in gradients]
        found.append([np.linalg.norm(gradient.astype("float64")) for gradient in gradients])
        optimizer.apply([keras.ops.convert_to_tensor(each) for each in gradients], model.trainable_variables)
    each = np.array(found)
    return np.linalg.norm(each, axis=1), each
