"""What residual blocks are for: gradients that arrive, and deep networks that train."""

import keras
import numpy as np
from gradients import function_and_gradients

from kerasblocks.layers import ResidualBlock

WIDTH = 16


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


def test_gradients_vanish_in_a_plain_stack_and_not_in_one_of_residual_blocks():
    x = np.random.default_rng(1).normal(size=(8, WIDTH)).astype("float32")
    plain = gradient_norms(sigmoid_layers(100), x)
    assert plain[0] < 1e-6 * plain[-1]
    residual = gradient_norms([ResidualBlock(layer, normalization="rms") for layer in sigmoid_layers(100)], x)
    assert 1e-2 < min(residual) / residual[-1] <= max(residual) / residual[-1] < 1e2


class Deep(keras.Model):
    """A linear layer, residual blocks and a linear head; what is not linear is in the blocks."""

    def __init__(self, depth):
        super().__init__()
        self.stem = keras.layers.Dense(WIDTH)
        self.blocks = [
            ResidualBlock(keras.layers.Dense(WIDTH, activation="tanh"), normalization="rms", scale=depth**-0.5)
            for _ in range(depth)
        ]
        self.head = keras.layers.Dense(1)

    def call(self, inputs):
        h = self.stem(inputs)
        for block in self.blocks:
            h = block(h)
        return self.head(h)


def test_two_hundred_residual_layers_train():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(-1, 1, (64, 2)).astype("float32")
    y = 3 * x[:, :1] * x[:, 1:]
    design = np.concatenate([x, np.ones_like(y)], axis=1)
    of_the_head_alone = np.linalg.lstsq(design, y)[1].item() / len(y)
    assert of_the_head_alone > 0.5 * y.var()
    model = Deep(200)
    # TensorFlow takes most of a minute to trace a graph this deep.
    eager = keras.backend.backend() == "tensorflow"
    model.compile(keras.optimizers.Adam(3e-3), "mse", run_eagerly=eager)
    history = model.fit(x, y, batch_size=64, epochs=25, verbose=0)
    assert history.history["loss"][-1] < 0.1 * of_the_head_alone
