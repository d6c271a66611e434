"""What residual blocks are for: gradients that arrive, and deep networks that train."""

import keras
import numpy as np
import pytest
from gradients import function_and_gradients

from benchmarks.depth import WIDTH, Deep, product_of_two
from kerasblocks.layers import ResidualBlock


def gradient_norms(stack, x):
    """Returns the norms of the gradients of the loss with respect to the output of each layer."""
    target = np.random.default_rng(2).normal(size=x.shape).astype("float32")
    head = keras.layers.Dense(x.shape[-1], kernel_initializer=keras.initializers.GlorotUniform(seed=0))

    def loss(*shifts):
        h = keras.ops.convert_to_tensor(x)
        for layer, shift in zip(stack, shifts, strict=True):
            h = layer(h) + shift
        return keras.ops.mean(keras.ops.square(head(h) - keras.ops.convert_to_tensor(target)))

    zeros = [np.zeros_like(x) for _ in stack]
    _, *gradients = function_and_gradients(loss, zeros, np.float32(1.0))
    return [float(np.linalg.norm(gradient)) for gradient in gradients]


def sigmoid_layers(count):
    return [
        keras.layers.Dense(WIDTH, activation="sigmoid", kernel_initializer=keras.initializers.GlorotUniform(seed=n))
        for n in range(count)
    ]


@pytest.mark.once
def test_gradients_vanish_in_a_plain_stack_and_not_in_one_of_residual_blocks():
    x = np.random.default_rng(1).normal(size=(8, WIDTH)).astype("float32")
    plain = gradient_norms(sigmoid_layers(100), x)
    assert plain[0] < 1e-6 * plain[-1]
    residual = gradient_norms([ResidualBlock(layer, normalization="rms") for layer in sigmoid_layers(100)], x)
    assert 1e-2 < min(residual) / residual[-1] <= max(residual) / residual[-1] < 1e2


def test_a_deep_stack_of_residual_layers_trains():
    # benchmarks/depth.py trains a thousand; TensorFlow takes a second to trace a layer.
    depth = 15 if keras.backend.backend() == "tensorflow" else 50
    keras.utils.set_random_seed(0)
    x, y, of_the_head_alone = product_of_two()
    assert of_the_head_alone > 0.5 * y.var()
    model = Deep(depth)
    model.compile(keras.optimizers.Adam(3e-3), "mse", jit_compile=keras.backend.backend() == "jax")
    history = model.fit(x, y, batch_size=64, epochs=60, verbose=0)
    assert history.history["loss"][-1] < 0.1 * of_the_head_alone
