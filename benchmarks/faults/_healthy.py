"""Models that train: the twins of the faults, on which no check should fail and one at most warn."""

from collections.abc import Callable

import keras
import numpy as np

from benchmarks.faults._models import CLASSES, TOKENS, Trial, blocks, convolutional, dense, recurrent, transformer
from kerasblocks.layers import ResidualBlock

HEALTHY: dict[str, Callable[[], Trial]] = {}


def healthy(make: Callable[[], Trial]) -> Callable[[], Trial]:
    """Registers a twin."""
    HEALTHY[make.__name__] = make
    return make


healthy(dense)
healthy(convolutional)
healthy(recurrent)
healthy(transformer)


@healthy
def dense_with_softmax() -> Trial:
    return dense(keras.layers.Dense(CLASSES, "softmax"), loss=keras.losses.SparseCategoricalCrossentropy())


@healthy
def dense_of_two_classes() -> Trial:
    trial = dense(keras.layers.Dense(1, "sigmoid"), loss="binary_crossentropy")
    trial.y, trial.validation = trial.y // 2, (trial.validation[0], trial.validation[1] // 2)
    return trial


@healthy
def dense_regression() -> Trial:
    trial = dense(keras.layers.Dense(1), loss="mse")
    trial.y, trial.validation = trial.x[:, :2].sum(1), (trial.validation[0], trial.validation[0][:, :2].sum(1))
    return trial


@healthy
def dense_one_hot() -> Trial:
    trial = dense(loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1))
    trial.y, trial.validation = np.eye(CLASSES)[trial.y], (trial.validation[0], np.eye(CLASSES)[trial.validation[1]])
    return trial


@healthy
def dense_with_tanh_and_momentum() -> Trial:
    return dense(
        hidden=lambda: [keras.layers.Dense(32, "tanh") for _ in range(3)],
        optimizer=keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=1.0),
    )


@healthy
def pixels_with_a_rescaling_layer() -> Trial:
    trial = convolutional(
        hidden=lambda: [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
        ]
    )
    pixels = [(each * 255).round().astype("uint8") for each in (trial.x, trial.validation[0])]
    trial.x, trial.validation = pixels[0], (pixels[1], trial.validation[1])
    return trial


@healthy
def convolutional_with_batch_normalization_and_dropout() -> Trial:
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
        ]
    )


@healthy
def deep_with_residuals() -> Trial:
    def hidden() -> list[keras.layers.Layer]:
        body = [
            ResidualBlock([keras.layers.Dense(32, "relu"), keras.layers.Dense(32, kernel_initializer="zeros")])
            for _ in range(6)
        ]
        return [keras.layers.Dense(32), *body]

    return dense(hidden=hidden)


@healthy
def recurrent_lstm_with_clipping() -> Trial:
    return recurrent(
        hidden=lambda: [keras.layers.Embedding(TOKENS, 16), keras.layers.LSTM(24)],
        optimizer=keras.optimizers.Adam(5e-3, global_clipnorm=1.0),
    )


@healthy
def transformer_in_mixed_bfloat16() -> Trial:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return transformer(keras.layers.Dense(CLASSES, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")


@healthy
def transformer_with_weight_decay_and_a_schedule() -> Trial:
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 400, warmup_target=5e-3, warmup_steps=20)
    return transformer(optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.05))


@healthy
def transformer_of_another_depth() -> Trial:
    return transformer(
        hidden=lambda: [keras.layers.Embedding(TOKENS, 16), *blocks(3), keras.layers.GlobalAveragePooling1D()]
    )


@healthy
def head_on_a_frozen_trained_backbone() -> Trial:
    trial = convolutional()
    trial.model.fit(trial.x, trial.y, epochs=3, verbose=0)
    trial.model.pop()
    trial.model.trainable = False
    model = keras.Sequential([keras.Input((16, 16, 1)), trial.model, keras.layers.Dense(10)])
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    trial.model = model
    return trial


@healthy
def language_model_of_tokens() -> Trial:
    trial = transformer(
        hidden=lambda: [keras.layers.Embedding(TOKENS, 16), *blocks(2)], head=keras.layers.Dense(TOKENS)
    )
    tokens = np.cumsum(np.concatenate([trial.x, trial.validation[0]]) % 3 + 1, axis=1) % TOKENS
    count = len(trial.x)
    trial.x, trial.y = tokens[:count, :-1], tokens[:count, 1:]
    trial.validation = tokens[count:, :-1], tokens[count:, 1:]
    return trial


@healthy
def autoencoder_of_digits() -> Trial:
    trial = convolutional(
        hidden=lambda: [keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(256, "sigmoid")],
        head=keras.layers.Reshape((16, 16, 1)),
        loss="binary_crossentropy",
    )
    trial.y, trial.validation = trial.x, (trial.validation[0], trial.validation[0])
    return trial


@healthy
def table_with_a_normalization_layer_and_a_constant_feature() -> Trial:
    normalization = keras.layers.Normalization()
    trial = dense(hidden=lambda: [normalization, keras.layers.Dense(32, "relu"), keras.layers.Dense(32, "relu")])
    scale = np.array([1, 1e3, 1e-2, 1, 50, 1, 1, 300, 1, 1], "float32")
    trial.x, trial.validation = (
        trial.x * scale + 7 * scale,
        (trial.validation[0] * scale + 7 * scale, trial.validation[1]),
    )
    trial.x[:, 2], trial.validation[0][:, 2] = 3, 3
    normalization.adapt(trial.x)
    return trial


@healthy
def weighted_rare_classes() -> Trial:
    trial = dense()
    kept = (trial.y == 0) | (np.arange(len(trial.y)) % 9 == 0)
    trial.x, trial.y = trial.x[kept], trial.y[kept]
    counts = np.bincount(trial.y, minlength=CLASSES)
    trial.options = {"sample_weight": (len(trial.y) / (CLASSES * counts[trial.y])).astype("float32")}
    trial.validation = trial.validation[0][:20], trial.validation[1][:20]
    return trial


@healthy
def bidirectional_with_several_labels() -> Trial:
    trial = recurrent(
        hidden=lambda: [keras.layers.Embedding(TOKENS, 16), keras.layers.Bidirectional(keras.layers.GRU(16))],
        head=keras.layers.Dense(3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    found = [np.stack([(each == token).any(1) for token in (1, 5, 9)], 1) for each in (trial.x, trial.validation[0])]
    trial.y, trial.validation = found[0].astype("float32"), (trial.validation[0], found[1].astype("float32"))
    return trial


@healthy
def convolutional_with_global_pooling_and_a_penalty() -> Trial:
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(16, 3, activation="gelu", kernel_regularizer=keras.regularizers.L2(1e-4)),
            keras.layers.Conv2D(32, 3, strides=2, activation="gelu", kernel_regularizer=keras.regularizers.L2(1e-4)),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )


@healthy
def sixty_samples() -> Trial:
    trial = dense()
    trial.x, trial.y, trial.validation = trial.x[:60], trial.y[:60], (trial.x[60:80], trial.y[60:80])
    return trial
