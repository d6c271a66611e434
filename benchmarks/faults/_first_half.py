"""Faults that the checks were tuned on, each with the checks of which one should fail."""

from collections.abc import Callable

import keras
import numpy as np

from benchmarks.faults._models import CLASSES, TOKENS, Trial, blocks, convolutional, dense, recurrent, transformer

Make = Callable[[], Trial]
SPARSE = keras.losses.SparseCategoricalCrossentropy
FIRST: dict[str, tuple[Make, tuple[str, ...]]] = {}


def fault(*checks: str) -> Callable[[Make], Make]:
    """Registers a fault with the checks that are right to fail."""

    def register(make: Make) -> Make:
        FIRST[make.__name__] = make, checks
        return make

    return register


@fault("output_activation")
def softmax_twice_dense() -> Trial:
    return dense(keras.layers.Dense(CLASSES, "softmax"))


@fault("output_activation")
def softmax_twice_convolutional() -> Trial:
    return convolutional(keras.layers.Dense(10, "softmax"))


@fault("output_activation")
def missing_softmax_transformer() -> Trial:
    return transformer(loss=SPARSE())


@fault("output_activation", "label_format")
def softmax_over_one_unit() -> Trial:
    trial = dense(keras.layers.Dense(1, "softmax"), loss=keras.losses.BinaryCrossentropy())
    trial.y, trial.validation = trial.y % 2, (trial.validation[0], trial.validation[1] % 2)
    return trial


@fault("label_format")
def squared_error_of_a_softmax_to_class_numbers() -> Trial:
    return dense(keras.layers.Dense(CLASSES, "softmax"), loss="mse")


@fault("label_format")
def categorical_loss_with_class_numbers() -> Trial:
    return convolutional(loss=keras.losses.CategoricalCrossentropy(from_logits=True))


@fault("input_scale")
def pixels_of_255() -> Trial:
    trial = convolutional()
    trial.x, trial.validation = trial.x * 255, (trial.validation[0] * 255, trial.validation[1])
    return trial


@fault("input_scale")
def one_feature_in_other_units() -> Trial:
    trial = dense()
    factor = np.where(np.arange(10) == 4, 3000, 1).astype("float32")
    trial.x, trial.validation = trial.x * factor, (trial.validation[0] * factor, trial.validation[1])
    return trial


@fault("input_scale")
def pixels_scaled_twice() -> Trial:
    trial = convolutional()
    trial.x, trial.validation = trial.x / 255, (trial.validation[0] / 255, trial.validation[1])
    return trial


@fault("label_range")
def labels_from_one() -> Trial:
    trial = dense()
    trial.y, trial.validation = trial.y + 1, (trial.validation[0], trial.validation[1] + 1)
    return trial


@fault("label_signal")
def labels_shuffled_dense() -> Trial:
    trial = dense()
    trial.y = np.random.default_rng(0).permutation(trial.y)
    return trial


@fault("label_signal")
def labels_shuffled_recurrent() -> Trial:
    trial = recurrent()
    trial.y = np.random.default_rng(0).permutation(trial.y)
    return trial


@fault("learning_rate")
def rate_too_high_dense() -> Trial:
    return dense(optimizer=keras.optimizers.Adam(1.0))


@fault("learning_rate")
def rate_too_high_transformer() -> Trial:
    return transformer(optimizer=keras.optimizers.Adam(0.6))


@fault("learning_rate")
def rate_too_low_convolutional() -> Trial:
    return convolutional(optimizer=keras.optimizers.Adam(1e-6))


@fault("dead_units")
def relu_dead_by_its_bias() -> Trial:
    bias = keras.initializers.Constant(-30.0)
    return dense(hidden=lambda: [keras.layers.Dense(32, "relu", bias_initializer=bias), keras.layers.Dense(32, "relu")])


@fault("activations")
def tanh_saturated_by_large_weights() -> Trial:
    wide = keras.initializers.RandomNormal(0, 4.0, seed=0)
    return dense(hidden=lambda: [keras.layers.Dense(32, "tanh", kernel_initializer=wide) for _ in range(2)])


@fault("starting_weights")
def all_weights_zero() -> Trial:
    return dense(
        keras.layers.Dense(CLASSES, kernel_initializer="zeros"),
        hidden=lambda: [keras.layers.Dense(32, "relu", kernel_initializer="zeros") for _ in range(2)],
    )


@fault("starting_weights")
def constant_weights_convolutional() -> Trial:
    constant = keras.initializers.Constant(0.05)
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, activation="relu", kernel_initializer=constant),
            keras.layers.Flatten(),
        ]
    )


@fault("gradient_flow", "input_ignored", "activations")
def forty_sigmoid_layers() -> Trial:
    return dense(hidden=lambda: [keras.layers.Dense(32, "sigmoid") for _ in range(40)])


@fault("trainable_weights")
def frozen_hidden_layer() -> Trial:
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, activation="relu", trainable=False),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, activation="relu", trainable=False),
            keras.layers.Flatten(),
        ]
    )


@keras.saving.register_keras_serializable("benchmarks")
class Detached(keras.layers.Layer):
    """Lets no gradient through, as a conversion to NumPy does."""

    def call(self, inputs):  # type: ignore[no-untyped-def]
        return keras.ops.stop_gradient(inputs)


@fault("gradients")
def detached_gradient() -> Trial:
    return dense(hidden=lambda: [keras.layers.Dense(32, "relu"), Detached(), keras.layers.Dense(32, "relu")])


@fault("leakage")
def validation_among_training() -> Trial:
    trial = convolutional()
    trial.validation = trial.x[:200], trial.y[:200]
    return trial


@fault("duplicates")
def every_sample_three_times() -> Trial:
    trial = dense()
    trial.x, trial.y = np.repeat(trial.x[:160], 3, 0), np.repeat(trial.y[:160], 3)
    order = np.random.default_rng(0).permutation(480)
    trial.x, trial.y = trial.x[order], trial.y[order]
    return trial


@fault("finite_data")
def nan_in_one_row() -> Trial:
    trial = dense()
    trial.x = trial.x.copy()
    trial.x[77, 3] = np.nan
    return trial


@fault("missing_classes")
def class_without_examples() -> Trial:
    trial = convolutional()
    trial.x, trial.y = trial.x[trial.y != 7], trial.y[trial.y != 7]
    trial.validation = tuple(part[trial.validation[1] != 7] for part in trial.validation)
    return trial


@fault("class_imbalance")
def forty_to_one() -> Trial:
    trial = dense()
    kept = (trial.y == 0) | (np.arange(len(trial.y)) % 13 == 0)
    trial.x, trial.y = trial.x[kept], trial.y[kept]
    return trial


@fault("train_inference_gap")
def dropout_of_nine_tenths() -> Trial:
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.9),
            keras.layers.Dense(32, "relu"),
        ]
    )


@fault("train_inference_gap")
def batch_normalization_of_single_samples() -> Trial:
    trial = dense(hidden=lambda: [keras.layers.Dense(32), keras.layers.BatchNormalization(), keras.layers.ReLU()])
    trial.options = {"batch_size": 1}
    return trial


@fault("sample_mixing")
def softmax_over_the_batch() -> Trial:
    return dense(hidden=lambda: [keras.layers.Dense(32), keras.layers.Softmax(axis=0), keras.layers.Dense(32, "relu")])


@keras.saving.register_keras_serializable("benchmarks")
class Turned(keras.layers.Layer):
    """Reshapes to features by samples and back, where it should have transposed."""

    def call(self, inputs):  # type: ignore[no-untyped-def]
        features = inputs.shape[-1]
        turned = keras.ops.reshape(inputs, (features, -1))
        return keras.ops.reshape(keras.ops.transpose(turned), (-1, features))


@fault("sample_mixing")
def reshape_that_mixes_samples() -> Trial:
    return dense(hidden=lambda: [keras.layers.Dense(32, "relu"), Turned(), keras.layers.Dense(32, "relu")])


@fault("regularization")
def weight_decay_of_thirty() -> Trial:
    return recurrent(optimizer=keras.optimizers.AdamW(3e-3, weight_decay=30.0))


@fault("regularization")
def clipping_to_nothing() -> Trial:
    return dense(optimizer=keras.optimizers.SGD(0.1, global_clipnorm=1e-4))


@fault("initial_loss")
def penalty_of_ten() -> Trial:
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(10.0)),
            keras.layers.Flatten(),
        ]
    )


@fault("gradient_flow", "activations", "finite_outputs", "initial_loss")
def exploding_recurrent_weights() -> Trial:
    wide = keras.initializers.RandomNormal(0, 2.0, seed=0)
    return recurrent(
        hidden=lambda: [
            keras.layers.Embedding(TOKENS, 16),
            keras.layers.SimpleRNN(24, activation="relu", recurrent_initializer=wide),
        ]
    )


@fault("input_values")
def tokens_beyond_the_table() -> Trial:
    return transformer(
        hidden=lambda: [keras.layers.Embedding(TOKENS // 2, 16), *blocks(1), keras.layers.GlobalAveragePooling1D()]
    )


@fault("distribution_shift")
def validation_in_another_scale() -> Trial:
    trial = convolutional()
    trial.validation = trial.validation[0] * 255, trial.validation[1]
    return trial


@fault("conflicting_labels", "duplicates")
def copies_with_other_labels() -> Trial:
    trial = dense()
    trial.x, trial.y = np.concatenate([trial.x, trial.x[:60]]), np.concatenate([trial.y, (trial.y[:60] + 1) % CLASSES])
    return trial


@fault("output_activation")
def relu_before_the_loss() -> Trial:
    return dense(keras.layers.Dense(CLASSES, "relu"))
