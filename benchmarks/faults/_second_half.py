"""More faults, each with the checks of which one should fail."""

import keras
import numpy as np

from benchmarks.faults._first_half import Make
from benchmarks.faults._models import (
    CLASSES,
    LENGTH,
    TOKENS,
    Trial,
    blocks,
    convolutional,
    dense,
    recurrent,
    transformer,
)

SECOND: dict[str, tuple[Make, tuple[str, ...]]] = {}


def fault(*checks: str):  # type: ignore[no-untyped-def]
    """Registers a fault with the checks that are right to fail."""

    def register(make: Make) -> Make:
        SECOND[make.__name__] = make, checks
        return make

    return register


@fault("output_activation")
def sigmoid_into_logits() -> Trial:
    trial = recurrent(keras.layers.Dense(1, "sigmoid"), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    trial.y, trial.validation = trial.y // 2, (trial.validation[0], trial.validation[1] // 2)
    return trial


@fault("output_activation")
def sigmoid_for_one_of_several() -> Trial:
    return convolutional(keras.layers.Dense(10, "sigmoid"), loss=keras.losses.SparseCategoricalCrossentropy())


@fault("output_activation")
def sigmoid_for_a_regression_beyond_one() -> Trial:
    trial = dense(keras.layers.Dense(1, "sigmoid"), loss="mse")
    trial.y = 5 * trial.x[:, 0]
    trial.validation = trial.validation[0], 5 * trial.validation[0][:, 0]
    return trial


@fault("label_format")
def one_hot_labels_with_the_sparse_loss() -> Trial:
    trial = transformer()
    trial.y, trial.validation = np.eye(CLASSES)[trial.y], (trial.validation[0], np.eye(CLASSES)[trial.validation[1]])
    return trial


@fault("label_format")
def binary_loss_with_minus_one() -> Trial:
    trial = dense(keras.layers.Dense(1), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    trial.y, trial.validation = 2 * (trial.y // 2) - 1, (trial.validation[0], 2 * (trial.validation[1] // 2) - 1)
    return trial


@fault("label_format")
def binary_loss_for_four_classes() -> Trial:
    return transformer(keras.layers.Dense(1, "sigmoid"), loss="binary_crossentropy")


@fault("label_range")
def too_few_units() -> Trial:
    return convolutional(keras.layers.Dense(9))


@fault("label_signal")
def labels_of_other_pictures() -> Trial:
    trial = convolutional()
    trial.y = np.roll(trial.y, 5)
    return trial


@fault("label_signal")
def labels_shuffled_transformer() -> Trial:
    trial = transformer()
    trial.y = np.random.default_rng(3).permutation(trial.y)
    return trial


@fault("learning_rate")
def rate_too_high_recurrent() -> Trial:
    return recurrent(optimizer=keras.optimizers.Adam(2.0))


@fault("learning_rate")
def rate_too_low_dense() -> Trial:
    return dense(optimizer=keras.optimizers.SGD(1e-6))


@fault("learning_rate")
def rate_too_high_with_momentum() -> Trial:
    return convolutional(optimizer=keras.optimizers.SGD(20.0, momentum=0.9))


@fault("activations")
def sigmoid_saturated_convolutional() -> Trial:
    wide = keras.initializers.RandomNormal(0, 8.0, seed=0)
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, activation="sigmoid", kernel_initializer=wide),
            keras.layers.Conv2D(8, 3, activation="sigmoid", kernel_initializer=wide),
            keras.layers.Flatten(),
        ]
    )


@fault("dead_units", "input_ignored")
def relu_dead_convolutional() -> Trial:
    bias = keras.initializers.Constant(-20.0)
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(16, 3, activation="relu", bias_initializer=bias),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
        ]
    )


@fault("starting_weights")
def ones_recurrent() -> Trial:
    return recurrent(
        hidden=lambda: [
            keras.layers.Embedding(TOKENS, 16),
            keras.layers.GRU(24, kernel_initializer="ones", recurrent_initializer="ones"),
        ]
    )


@fault("trainable_weights")
def everything_frozen() -> Trial:
    trial = recurrent()
    trial.model.trainable = False
    return trial


@fault("gradients")
def rounded_features() -> Trial:
    return dense(
        hidden=lambda: [
            keras.layers.Dense(32, "relu"),
            keras.layers.Lambda(keras.ops.round),
            keras.layers.Dense(32, "relu"),
        ]
    )


@fault("leakage")
def nearly_the_same_pictures() -> Trial:
    trial = convolutional()
    noise = 0.004 * np.random.default_rng(0).normal(size=trial.x[:200].shape).astype("float32")
    trial.validation = trial.x[:200] + noise, trial.y[:200]
    return trial


@fault("leakage")
def a_tenth_of_the_texts_twice() -> Trial:
    trial = transformer()
    x, y = trial.validation
    trial.validation = np.concatenate([x[:140], trial.x[:20]]), np.concatenate([y[:140], trial.y[:20]])
    return trial


@fault("duplicates")
def a_quarter_copied() -> Trial:
    trial = convolutional()
    trial.x, trial.y = np.concatenate([trial.x, trial.x[:400]]), np.concatenate([trial.y, trial.y[:400]])
    return trial


@fault("finite_data")
def infinite_pixels() -> Trial:
    trial = convolutional()
    trial.x = trial.x.copy()
    trial.x[5, 3, 3] = np.inf
    return trial


@fault("class_imbalance")
def rare_digit() -> Trial:
    trial = convolutional()
    kept = (trial.y != 3) | (np.cumsum(trial.y == 3) <= 5)
    trial.x, trial.y = trial.x[kept], trial.y[kept]
    return trial


@fault("train_inference_gap")
def dropout_in_every_block() -> Trial:
    return transformer(
        hidden=lambda: [
            keras.layers.Embedding(TOKENS, 16),
            keras.layers.Dropout(0.85),
            *blocks(1),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


@fault("sample_mixing")
def mean_over_the_batch() -> Trial:
    return dense(
        hidden=lambda: [
            keras.layers.Dense(32, "relu"),
            keras.layers.Lambda(lambda x: x - keras.ops.mean(x, 0, keepdims=True)),
        ]
    )


@fault("sample_mixing")
def softmax_over_samples_in_a_transformer() -> Trial:
    return transformer(
        hidden=lambda: [
            keras.layers.Embedding(TOKENS, 16),
            *blocks(1),
            keras.layers.Softmax(axis=0),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


@fault("regularization")
def clipping_by_value_to_nothing() -> Trial:
    return convolutional(optimizer=keras.optimizers.SGD(0.1, clipvalue=1e-6))


@fault("initial_loss", "regularization")
def penalty_on_activities() -> Trial:
    return dense(
        hidden=lambda: [
            keras.layers.Dense(64, "relu", activity_regularizer=keras.regularizers.L2(5.0)),
            keras.layers.Dense(32, "relu"),
        ]
    )


@fault("input_scale")
def large_offsets() -> Trial:
    trial = dense()
    trial.x, trial.validation = 50 * trial.x + 400, (50 * trial.validation[0] + 400, trial.validation[1])
    return trial


@fault("input_values")
def all_inputs_zero() -> Trial:
    trial = convolutional()
    trial.x = np.zeros_like(trial.x)
    return trial


@fault("distribution_shift")
def other_classes_in_validation() -> Trial:
    trial = convolutional()
    low, high = trial.y < 5, trial.y >= 5
    trial.validation, trial.x, trial.y = (trial.x[high], trial.y[high]), trial.x[low], trial.y[low]
    return trial


@fault("gradient_flow", "activations", "input_ignored")
def sixty_tanh_layers_with_small_weights() -> Trial:
    small = keras.initializers.RandomNormal(0, 0.02, seed=0)
    return dense(hidden=lambda: [keras.layers.Dense(32, "tanh", kernel_initializer=small) for _ in range(60)])


@fault("mixed_precision")
def weights_in_float16() -> Trial:
    keras.config.set_dtype_policy("float16")
    try:
        return dense()
    finally:
        keras.config.set_dtype_policy("float32")


@fault("overfit_tiny_subset", "input_ignored", "gradients", "sample_order")
def a_head_that_sees_one_token() -> Trial:
    return transformer(
        hidden=lambda: [
            keras.layers.Lambda(lambda x: 0 * x),
            keras.layers.Embedding(TOKENS, 16),
            keras.layers.Flatten(),
            keras.layers.Reshape((LENGTH * 16,)),
        ]
    )
