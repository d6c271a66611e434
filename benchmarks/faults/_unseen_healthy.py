"""Models that train, written without a look at the checks: no check should fail on them and one at most warn."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from benchmarks.faults._models import CLASSES, LENGTH, TOKENS, Trial, convolutional, dense, digits, split, table, tokens

UNSEEN_HEALTHY: dict[str, Callable[[], Trial]] = {}
SPARSE = keras.losses.SparseCategoricalCrossentropy


def healthy(make: Callable[[], Trial]) -> Callable[[], Trial]:
    """Registers a healthy model."""

    @functools.wraps(make)
    def seeded() -> Trial:
        keras.utils.set_random_seed(0)
        return make()

    UNSEEN_HEALTHY[make.__name__] = seeded
    return seeded


def functional(inputs: Any, outputs: Any, optimizer: Any = None, loss: Any = None, **compiled: Any) -> Any:
    """Returns a compiled model of the functional API."""
    model = keras.Model(inputs, outputs)
    model.compile(optimizer or keras.optimizers.Adam(3e-3), loss or SPARSE(from_logits=True), **compiled)
    return model


@healthy
def backbone_of_odd_and_even_frozen_for_ten_digits() -> Trial:
    trial = convolutional()
    inputs = keras.Input((16, 16, 1))
    hidden = inputs
    for width in (12, 24):
        hidden = keras.layers.Conv2D(width, 3, use_bias=False)(hidden)
        hidden = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(hidden))
        hidden = keras.layers.MaxPooling2D()(hidden)
    backbone = keras.Model(inputs, hidden)
    before = functional(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(hidden)))
    before.fit(trial.x, trial.y % 2, epochs=5, verbose=0)
    backbone.trainable = False
    inputs = keras.Input((16, 16, 1))
    hidden = keras.layers.Flatten()(backbone(inputs, training=False))
    trial.model = functional(inputs, keras.layers.Dense(10)(hidden), keras.optimizers.Adam(2e-3))
    return trial


@healthy
def last_layer_of_zeros() -> Trial:
    return convolutional(keras.layers.Dense(10, kernel_initializer="zeros"))


@healthy
def several_questions_about_a_digit() -> Trial:
    trial = convolutional(keras.layers.Dense(3, "sigmoid"), loss="binary_crossentropy")
    answers = [
        np.stack([y % 2 == 0, y > 4, np.isin(y, [0, 6, 8, 9])], axis=1).astype("float32")
        for y in (trial.y, trial.validation[1])
    ]
    trial.y, trial.validation = answers[0], (trial.validation[0], answers[1])
    return trial


@healthy
def one_in_eight_with_weights() -> Trial:
    trial = dense(keras.layers.Dense(1), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    x, _ = table(1200)
    y = (x[:, :2].sum(axis=1) > 1.63).astype("float32")
    trial.x, trial.y, trial.validation = split(x, y)
    share = float(trial.y.mean())
    trial.options = {"sample_weight": np.where(trial.y == 1, 0.5 / share, 0.5 / (1 - share)).astype("float32")}
    return trial


@healthy
def padded_texts_with_a_mask() -> Trial:
    rng = np.random.default_rng(61)
    x = rng.integers(1, TOKENS, (1000, 16))
    x[np.arange(16) >= rng.integers(3, 17, (1000, 1))] = 0
    y = np.stack([((x % 2 == group) & (x > 0)).sum(axis=1) for group in range(2)], axis=1).argmax(axis=1)
    inputs = keras.Input((16,), dtype="int32")
    hidden = keras.layers.Embedding(TOKENS, 16, mask_zero=True)(inputs)
    return Trial(functional(inputs, keras.layers.Dense(2)(keras.layers.LSTM(24)(hidden))), *split(x, y))


@healthy
def convolutional_autoencoder_that_removes_noise() -> Trial:
    rng = np.random.default_rng(62)
    clean, _ = digits()
    clean = clean[:800]
    noisy = np.clip(clean + rng.normal(0, 0.2, clean.shape), 0, 1).astype("float32")
    inputs = keras.Input((16, 16, 1))
    hidden = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    hidden = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(hidden)
    outputs = keras.layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid")(hidden)
    return Trial(functional(inputs, outputs, loss="mse"), *split(noisy, clean))


@healthy
def number_of_even_tokens_as_a_regression() -> Trial:
    x, _ = tokens()
    inputs = keras.Input((LENGTH,), dtype="int32")
    hidden = keras.layers.Dense(16, "relu")(keras.layers.Embedding(TOKENS, 16)(inputs))
    hidden = keras.layers.Dense(16, "relu")(keras.layers.Flatten()(hidden))
    model = functional(inputs, keras.layers.Dense(1)(hidden), keras.optimizers.Adam(5e-3), "mse", metrics=["mae"])
    return Trial(model, *split(x, (x % 2 == 0).sum(axis=1)))


@healthy
def half_precision_with_a_scaled_loss() -> Trial:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return dense(keras.layers.Dense(CLASSES, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")


@healthy
def ten_residual_convolutions() -> Trial:
    x, y = digits()
    inputs = keras.Input((16, 16, 1))
    hidden = keras.layers.Conv2D(12, 3, strides=2, padding="same")(inputs)
    for _ in range(10):
        inner = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(hidden))
        hidden = keras.layers.Add()([hidden, keras.layers.Conv2D(12, 3, padding="same")(inner)])
    hidden = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(hidden))
    model = functional(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(hidden)))
    return Trial(model, *split(x[:1000], y[:1000]))


@healthy
def language_model_of_a_gru() -> Trial:
    rng = np.random.default_rng(63)
    steps = rng.choice(3, (700, 16), p=[0.7, 0.2, 0.1]) + 1
    text = np.cumsum(np.concatenate([rng.integers(0, TOKENS, (700, 1)), steps], axis=1), axis=1) % TOKENS
    inputs = keras.Input((None,), dtype="int32")
    hidden = keras.layers.GRU(32, return_sequences=True)(keras.layers.Embedding(TOKENS, 16)(inputs))
    model = functional(inputs, keras.layers.Dense(TOKENS, "softmax")(hidden), keras.optimizers.Adam(5e-3), SPARSE())
    return Trial(model, *split(text[:, :-1], text[:, 1:]))


@healthy
def smoothed_labels_and_a_falling_rate() -> Trial:
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([400, 800], [0.05, 0.01, 0.002])
    trial = convolutional(
        keras.layers.Dense(10, "softmax"),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        optimizer=keras.optimizers.SGD(steps, momentum=0.9, nesterov=True),
    )
    trial.y, trial.validation = np.eye(10)[trial.y], (trial.validation[0], np.eye(10)[trial.validation[1]])
    return trial


@healthy
def wine_of_three_kinds() -> Trial:
    rng = np.random.default_rng(64)
    kind = rng.integers(0, 3, 150)
    x = rng.normal(size=(3, 13))[kind] * 0.9 + rng.normal(size=(150, 13))
    x = ((x - x[:120].mean(axis=0)) / x[:120].std(axis=0)).astype("float32")
    inputs = keras.Input((13,))
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(16, "relu")(inputs))
    model = functional(inputs, keras.layers.Dense(3, "softmax")(hidden), keras.optimizers.Adam(1e-2), SPARSE())
    return Trial(model, *split(x, kind))


@healthy
def text_and_numbers_together() -> Trial:
    rng = np.random.default_rng(65)
    text, _ = tokens()
    numbers = rng.normal(size=(len(text), 5)).astype("float32")
    y = ((text % 2 == 0).sum(axis=1) > LENGTH / 2 - 1) * 2 + (numbers[:, 0] + numbers[:, 1] > 0)
    inputs = {"text": keras.Input((LENGTH,), dtype="int32", name="text"), "numbers": keras.Input((5,), name="numbers")}
    read = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(TOKENS, 16)(inputs["text"]))
    hidden = keras.layers.Concatenate()([read, keras.layers.Dense(16, "relu")(inputs["numbers"])])
    outputs = keras.layers.Dense(CLASSES)(keras.layers.Dense(32, "relu")(hidden))
    x, held = {"text": text[:640], "numbers": numbers[:640]}, {"text": text[640:], "numbers": numbers[640:]}
    return Trial(functional(inputs, outputs, keras.optimizers.Adam(1e-2)), x, y[:640], (held, y[640:]))


@healthy
def waves_under_one_dimensional_convolutions() -> Trial:
    rng = np.random.default_rng(66)
    y = rng.integers(0, CLASSES, 700)
    angle = 2 * np.pi * (y[:, None] + 1) * np.arange(48) / 48 + rng.uniform(0, 2 * np.pi, (700, 1))
    x = np.stack([np.sin(angle), np.cos(angle)], axis=-1) + 0.4 * rng.normal(size=(700, 48, 2))
    inputs = keras.Input((48, 2))
    hidden = inputs
    for width in (12, 24):
        hidden = keras.layers.Conv1D(width, 5, padding="same", use_bias=False)(hidden)
        hidden = keras.layers.MaxPooling1D()(keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(hidden)))
    outputs = keras.layers.Dense(CLASSES)(keras.layers.GlobalAveragePooling1D()(hidden))
    return Trial(functional(inputs, outputs), *split(x.astype("float32"), y))


@healthy
def bag_of_words_from_a_large_vocabulary() -> Trial:
    rng = np.random.default_rng(67)
    y = rng.integers(0, 3, 1200)
    common = np.minimum(rng.zipf(1.4, (1200, 24)), 4999)
    topical = 100 + 40 * y[:, None] + rng.integers(0, 40, (1200, 24))
    x = np.where(rng.random((1200, 24)) < 0.3, topical, common)
    inputs = keras.Input((24,), dtype="int32")
    hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(5000, 16)(inputs))
    return Trial(functional(inputs, keras.layers.Dense(3)(hidden), keras.optimizers.Adam(1e-2)), *split(x, y))


class Reader(keras.Model):
    """A transformer of one block that is built when it sees data."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(TOKENS, 16)
        self.before, self.between = keras.layers.LayerNormalization(), keras.layers.LayerNormalization()
        self.attention = keras.layers.MultiHeadAttention(2, 8, dropout=0.1)
        self.wide, self.narrow = keras.layers.Dense(32, "gelu"), keras.layers.Dense(16)
        self.pooling, self.head = keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(CLASSES)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = self.embedding(inputs)
        normal = self.before(x)
        x = x + self.attention(normal, normal, training=training)
        x = x + self.narrow(self.wide(self.between(x)))
        return self.head(self.pooling(x))


@healthy
def subclassed_reader_on_shuffled_batches() -> Trial:
    x, y, validation = split(*tokens())
    model = Reader()
    model.compile(keras.optimizers.AdamW(5e-3, weight_decay=1e-3), SPARSE(from_logits=True), metrics=["accuracy"])
    order = np.random.default_rng(68)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chosen in np.array_split(order.permutation(len(x)), 20):
            yield x[chosen], y[chosen]

    return Trial(model, batches, None, validation)
