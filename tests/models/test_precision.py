import keras
import numpy as np
import pytest

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches, load_images
from kerasblocks.layers import ResidualBlock, RMSNorm, SwiGLU, Swish
from kerasblocks.models import lenet5, transformer_lm

STEPS = 20
DISTANCE = 0.02  # of the mean loss of the steps, relative to float32
FIRST_NORM = {"mixed_float16": 0.005, "mixed_bfloat16": 0.02}  # of the gradient in the first step


def digits():
    data = load_images("digits", image_size=32)
    return data.x_train[: 32 * STEPS], data.y_train[: 32 * STEPS]


def lenet(variant):
    return lenet5((32, 32, 1), 10, variant, seed=0)


def blocks():
    layers = [keras.layers.Rescaling(1.0), keras.layers.Reshape((32, 32)), RMSNorm()]
    layers += [ResidualBlock(SwiGLU(48, dropout=0.0)), Swish(), keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((32, 32, 1)), *layers])


def reader():
    """Reads the rows of an image as a text of 1,024 tokens, in pieces of 32, and guesses the next pixels."""
    return transformer_lm(vocabulary_size=32, num_layers=2, num_heads=2, width=32, num_key_value_heads=1, seed=0)


def pixels():
    images = digits()[0].reshape(-1, 1024)[:, 320:353] // 8
    return images[:, :-1].astype("int32"), images[:, 1:].astype("int32")


def trained(make, policy):
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = make()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.AdamW(2e-3)
        if policy == "mixed_float16":  # Keras's own first scale overflows, and the steps that it skips are missing.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64)
        model.compile(optimizer, loss)
        callbacks = [WarmupCosine(), norms := GradientNormLogger(), guard := TerminateOnNaN()]
        x, y = pixels() if make is reader else digits()
        fits = model.fit(ArrayBatches(x, y, batch_size=32), epochs=1, verbose=0, callbacks=callbacks)
    finally:
        keras.config.set_dtype_policy("float32")
    assert guard.report is None
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)
    return model, fits.history["loss"], np.array(norms.history["grad_norm"])


@pytest.mark.parametrize(
    "make",
    [lambda: lenet("modern"), pytest.param(lambda: lenet("1998"), marks=pytest.mark.once), blocks, reader],
    ids=["lenet5", "lenet5 of 1998", "blocks", "transformer"],
)
def test_half_precision_stays_near_float32(make):
    _, expected, norms = trained(make, "float32")
    for policy, rounding in FIRST_NORM.items():
        model, losses, found = trained(make, policy)
        assert model.compute_dtype == policy.removeprefix("mixed_")
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (policy == "mixed_float16")
        np.testing.assert_allclose(losses, expected, rtol=DISTANCE)
        np.testing.assert_allclose(found[0], norms[0], rtol=rounding)  # unscaled
