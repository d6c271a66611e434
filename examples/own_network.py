"""Your own network, trained with warmup and cosine, gradient norms, and a stop at the first NaN.

    KERAS_BACKEND=jax python examples/own_network.py

Replace `network` and the data by yours; nothing else changes from backend to backend.
"""

import keras

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches, load_images
from kerasblocks.layers import ResidualBlock

EPOCHS, BATCH_SIZE = 8, 64


def network(image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Returns a small residual network."""
    inputs = keras.Input(image_shape)
    h = inputs
    for filters in (16, 32):
        h = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(h)
        h = ResidualBlock([keras.layers.Conv2D(filters, 3, padding="same", activation="relu")])(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    return keras.Model(inputs, keras.layers.Dense(num_classes)(h))


keras.utils.set_random_seed(0)
digits = load_images("digits", image_size=16)
batches = ArrayBatches(digits.x_train, digits.y_train, batch_size=BATCH_SIZE, seed=0)  # pixels from 0 to 1
test_batches = ArrayBatches(digits.x_test, digits.y_test, batch_size=BATCH_SIZE, shuffle=False)
model = network(digits.image_shape, digits.num_classes)
model.compile(
    keras.optimizers.AdamW(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
norms = GradientNormLogger()
model.fit(batches, epochs=EPOCHS, verbose=2, callbacks=[WarmupCosine(), norms, TerminateOnNaN()])
loss, accuracy = model.evaluate(test_batches, verbose=0)
print(norms.summary())
print(f"test accuracy {accuracy:.3f}")
