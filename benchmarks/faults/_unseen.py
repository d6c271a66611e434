"""Faults written without a look at the checks, as people make them; each with the checks of which one should fail."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from benchmarks.faults._models import (
    CLASSES,
    LENGTH,
    TOKENS,
    Trial,
    convolutional,
    dense,
    digits,
    recurrent,
    split,
    table,
    tokens,
    transformer,
)

Make = Callable[[], Trial]
SPARSE = keras.losses.SparseCategoricalCrossentropy
UNSEEN: dict[str, tuple[Make, tuple[str, ...]]] = {}


def fault(*checks: str) -> Callable[[Make], Make]:
    """Registers a fault with the checks that are right to fail."""

    def register(make: Make) -> Make:
        @functools.wraps(make)
        def seeded() -> Trial:
            keras.utils.set_random_seed(0)
            return make()

        UNSEEN[make.__name__] = seeded, checks
        return seeded

    return register


def functional(inputs: Any, outputs: Any, optimizer: Any = None, loss: Any = None, **compiled: Any) -> Any:
    """Returns a compiled model of the functional API."""
    model = keras.Model(inputs, outputs)
    model.compile(optimizer or keras.optimizers.Adam(3e-3), loss or SPARSE(from_logits=True), **compiled)
    return model


def sentences(samples: int = 600, length: int = LENGTH) -> np.ndarray:
    """Returns texts in which each token is one to three after the one before, and `length` + 1 tokens long."""
    rng = np.random.default_rng(11)
    steps = rng.choice(3, (samples, length), p=[0.7, 0.2, 0.1]) + 1
    return np.cumsum(np.concatenate([rng.integers(0, TOKENS, (samples, 1)), steps], axis=1), axis=1) % TOKENS


def language_model(layers: Callable[[Any], Any], x: np.ndarray, y: np.ndarray) -> Trial:
    """Returns a model of token embeddings with positions, the layers, and a score for each token."""
    inputs = keras.Input((x.shape[1],), dtype="int32")
    places = keras.layers.Embedding(x.shape[1], 16)(keras.ops.cumsum(keras.ops.ones_like(inputs), axis=1) - 1)
    hidden = layers(keras.layers.Embedding(TOKENS, 16)(inputs) + places)
    model = functional(inputs, keras.layers.Dense(TOKENS)(hidden))
    return Trial(model, *split(x, y))


def encoder_block(x: Any, **attention: Any) -> Any:
    """Returns what one transformer block of Keras layers makes of x."""
    normal = keras.layers.LayerNormalization()(x)
    x = x + keras.layers.MultiHeadAttention(2, 8)(normal, normal, **attention)
    normal = keras.layers.LayerNormalization()(x)
    return x + keras.layers.Dense(16)(keras.layers.Dense(32, "gelu")(normal))


# Dense


@fault("starting_weights")
def small_constant_as_every_start() -> Trial:
    constant = keras.initializers.Constant(0.05)
    inputs = keras.Input((10,))
    hidden = keras.layers.Dense(32, "relu", kernel_initializer=constant)(inputs)
    hidden = keras.layers.Dense(32, "relu", kernel_initializer=constant)(hidden)
    outputs = keras.layers.Dense(CLASSES, kernel_initializer=constant)(hidden)
    return Trial(functional(inputs, outputs), *split(*table()))


@fault("output_activation", "finite_outputs")
def poisson_loss_on_a_linear_output() -> Trial:
    trial = dense(keras.layers.Dense(1), hidden=lambda: [], loss="poisson")
    rng = np.random.default_rng(21)
    x, _ = table()
    counts = rng.poisson(np.exp(0.5 * x[:, 0] - 0.4 * x[:, 1] + 0.5)).astype("float32")
    trial.x, trial.y, trial.validation = split(x, counts)
    return trial


class Prices(keras.Model):
    """A model of two hidden layers that is built when it sees data."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.Dense(32, "relu")
        self.second = keras.layers.Dense(32, "relu")
        self.price = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.price(self.second(self.first(inputs)))


@fault("label_range")
def house_prices_in_dollars() -> Trial:
    x, _ = table()
    prices = 300_000 + 60_000 * x[:, 0] + 40_000 * x[:, 1] * (x[:, 2] > 0) - 30_000 * x[:, 3]
    model = Prices()
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return Trial(model, *split(x, prices.astype("float32")))


@fault("input_scale")
def age_income_and_rooms_as_they_come() -> Trial:
    rng = np.random.default_rng(22)
    columns = {
        "age": rng.uniform(18, 80, (600, 1)).astype("float32"),
        "income": rng.lognormal(10.8, 0.5, (600, 1)).astype("float32"),
        "rooms": rng.integers(1, 7, (600, 1)).astype("float32"),
    }
    wish = (columns["rooms"] > 3) + (columns["age"] > 45) * 2
    inputs = {name: keras.Input((1,), name=name) for name in columns}
    hidden = keras.layers.Concatenate()(list(inputs.values()))
    hidden = keras.layers.Dense(32, "relu")(keras.layers.Dense(32, "relu")(hidden))
    model = functional(inputs, keras.layers.Dense(CLASSES)(hidden))
    held = {name: column[480:] for name, column in columns.items()}
    return Trial(model, {name: column[:480] for name, column in columns.items()}, wish[:480, 0], (held, wish[480:, 0]))


@fault("input_scale", "input_values")
def missing_numbers_as_minus_9999() -> Trial:
    trial = dense()
    rng = np.random.default_rng(23)
    for part in (trial.x, trial.validation[0]):
        part[rng.random(part.shape) < 0.08] = -9999
    return trial


@fault("input_values")
def numbers_read_as_text() -> Trial:
    trial = dense()
    trial.x, trial.validation = trial.x.astype(str), (trial.validation[0].astype(str), trial.validation[1])
    return trial


@fault("label_signal")
def outliers_dropped_from_the_inputs_only() -> Trial:
    trial = dense()
    kept = trial.x[(np.abs(trial.x) < 2.4).all(axis=1)]
    trial.x, trial.y = kept, trial.y[: len(kept)]
    return trial


@fault("learning_rate")
def decay_meant_by_epoch_done_by_step() -> Trial:
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-3, decay_steps=1, decay_rate=0.5)
    return dense(optimizer=keras.optimizers.Adam(schedule))


@fault("activations")
def linear_layers_on_a_ring_problem() -> Trial:
    rng = np.random.default_rng(24)
    x = rng.normal(size=(800, 3)).astype("float32")
    radius = np.linalg.norm(x, axis=1)
    y = np.digitize(radius, np.quantile(radius, [0.25, 0.5, 0.75]))
    inputs = keras.Input((3,))
    hidden = inputs
    for width in (64, 64, 32):
        hidden = keras.layers.Dense(width)(hidden)
    return Trial(functional(inputs, keras.layers.Dense(CLASSES)(hidden)), *split(x, y))


@fault("activations", "initial_loss", "gradient_flow")
def tanh_with_normal_weights_of_five() -> Trial:
    large = keras.initializers.RandomNormal(stddev=5.0)
    return dense(
        keras.layers.Dense(CLASSES, kernel_initializer=large),
        hidden=lambda: [keras.layers.Dense(32, "tanh", kernel_initializer=large.clone()) for _ in range(4)],
    )


@fault("leakage", "duplicates")
def oversampled_before_the_split() -> Trial:
    trial = dense(keras.layers.Dense(1, "sigmoid"), loss="binary_crossentropy")
    rng = np.random.default_rng(25)
    x, _ = table(700)
    y = (x[:, 0] + x[:, 1] + 0.5 * rng.normal(size=700) > 1.9).astype("float32")
    rare = np.flatnonzero(y == 1)
    order = np.concatenate([np.arange(700), rng.choice(rare, 700 - 2 * len(rare))])
    rng.shuffle(order)
    trial.x, trial.y, trial.validation = split(x[order], y[order])
    return trial


@fault("learning_rate", "update_ratio")
def descent_by_a_millionth() -> Trial:
    inputs = keras.Input((10,))
    hidden = keras.layers.Dense(24, "relu")(inputs)
    hidden = keras.layers.Concatenate()([inputs, keras.layers.Dense(24, "relu")(hidden)])
    model = functional(inputs, keras.layers.Dense(CLASSES)(hidden), keras.optimizers.SGD(1e-6))
    return Trial(model, *split(*table()))


# Convolutional


@fault("trainable_weights")
def frozen_backbone_whose_weights_were_never_loaded() -> Trial:
    trial = convolutional()
    backbone = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    backbone.trainable = False
    inputs = keras.Input((16, 16, 1))
    trial.model = functional(inputs, keras.layers.Dense(10)(backbone(inputs, training=False)))
    return trial


@fault("output_activation")
def binary_loss_on_scores_without_sigmoid() -> Trial:
    trial = convolutional(keras.layers.Dense(1), loss="binary_crossentropy")
    trial.y, trial.validation = trial.y % 2, (trial.validation[0], trial.validation[1] % 2)
    return trial


@fault("output_activation")
def segmentation_with_softmax_over_the_pixels() -> Trial:
    x, _ = digits()
    inputs = keras.Input((16, 16, 1))
    hidden = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    hidden = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(hidden)
    outputs = keras.layers.Softmax(axis=1)(keras.layers.Reshape((256, 3))(keras.layers.Conv2D(3, 1)(hidden)))
    masks = np.digitize(x[:500].reshape(500, 256), [0.25, 0.75])
    return Trial(functional(inputs, outputs, loss=SPARSE()), *split(x[:500], masks))


@fault("finite_data")
def pixels_standardised_by_a_deviation_of_zero() -> Trial:
    trial = convolutional()
    trial.x[:, 0, 0], trial.validation[0][:, 0, 0] = 0, 0
    mean, deviation = trial.x.mean(axis=0), trial.x.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        trial.validation = (trial.validation[0] - mean) / deviation, trial.validation[1]
        trial.x = (trial.x - mean) / deviation
    return trial


@fault("train_inference_gap", "regularization")
def dropout_rate_taken_for_what_is_kept() -> Trial:
    return convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.9),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Dropout(0.9),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dropout(0.9),
        ]
    )


@fault("distribution_shift")
def validation_of_black_ink_on_white() -> Trial:
    trial = convolutional()
    trial.validation = 1 - trial.validation[0], trial.validation[1]
    return trial


@fault("sample_order")
def batches_one_folder_after_another() -> Trial:
    trial = convolutional()
    order = np.argsort(trial.y, kind="stable")
    x, y = trial.x[order], trial.y[order]

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), 32):
            yield x[start : start + 32], y[start : start + 32]

    trial.x, trial.y = batches, None
    return trial


@fault("gradient_flow", "activations")
def thirty_plain_convolutions() -> Trial:
    trial = convolutional(
        hidden=lambda: [
            keras.layers.AveragePooling2D(2),
            *(keras.layers.Conv2D(6, 3, padding="same", activation="relu") for _ in range(30)),
            keras.layers.Flatten(),
        ],
    )
    trial.x, trial.y = trial.x[:500], trial.y[:500]
    return trial


@fault("label_signal", "conflicting_labels")
def pictures_repeated_and_labels_tiled() -> Trial:
    trial = convolutional()
    rng = np.random.default_rng(31)
    x = np.repeat(trial.x[:700], 2, axis=0)
    trial.x, trial.y = x + rng.normal(0, 0.1, x.shape).astype("float32"), np.tile(trial.y[:700], 2)
    return trial


@fault("mixed_precision", "finite_outputs", "input_scale")
def sixteen_bit_pictures_in_half_precision() -> Trial:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        trial = convolutional(keras.layers.Dense(10, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    trial.x, trial.validation = trial.x * 65535, (trial.validation[0] * 65535, trial.validation[1])
    return trial


@fault("dead_units", "input_ignored")
def relu_of_negative_distances() -> Trial:
    trial = convolutional()
    inputs = keras.Input((16, 16, 1))
    hidden = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    hidden = keras.layers.Dense(24)(keras.layers.Flatten()(hidden))
    hidden = keras.layers.ReLU()(-keras.ops.square(hidden))
    trial.model = functional(inputs, keras.layers.Dense(10)(hidden))
    return trial


@fault("train_inference_gap")
def normalised_pictures_one_at_a_time() -> Trial:
    trial = convolutional(
        hidden=lambda: [
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    )
    trial.x, trial.y, trial.options = trial.x[:150], trial.y[:150], {"batch_size": 1}
    trial.validation = trial.validation[0][:60], trial.validation[1][:60]
    return trial


# Recurrent


@fault("label_range", "label_format")
def tags_of_minus_one_for_padding() -> Trial:
    trial = recurrent(
        hidden=lambda: [
            keras.layers.Embedding(TOKENS, 16),
            keras.layers.GRU(24, return_sequences=True),
        ]
    )
    rng = np.random.default_rng(41)
    x = rng.integers(1, TOKENS, (700, LENGTH))
    x[np.arange(LENGTH) >= rng.integers(4, LENGTH + 1, (700, 1))] = 0
    trial.x, trial.y, trial.validation = split(x, np.where(x == 0, -1, x % CLASSES))
    return trial


@fault("label_format")
def labels_left_as_words() -> Trial:
    trial = recurrent()
    words = np.array(["anger", "fear", "joy", "sadness"])
    trial.y, trial.validation = words[trial.y], (trial.validation[0], words[trial.validation[1]])
    return trial


def signals(samples: int = 500, length: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Returns waves of one of four frequencies with noise."""
    rng = np.random.default_rng(42)
    y = rng.integers(0, CLASSES, samples)
    angle = 2 * np.pi * (y[:, None] + 1) * np.arange(length) / length + rng.uniform(0, 2 * np.pi, (samples, 1))
    return (np.sin(angle) + 0.2 * rng.normal(size=angle.shape)).astype("float32")[..., None], y


@fault("input_scale", "activations")
def raw_sensor_counts_into_an_lstm() -> Trial:
    x, y = signals()
    inputs = keras.Input((40, 1))
    model = functional(inputs, keras.layers.Dense(CLASSES)(keras.layers.LSTM(24)(inputs)))
    return Trial(model, *split(2000 + 800 * x, y))


@fault("gradient_flow", "activations")
def identity_start_with_a_gain_of_one_and_a_half() -> Trial:
    rng = np.random.default_rng(43)
    x = rng.integers(0, TOKENS, (500, 40))
    inputs = keras.Input((40,), dtype="int32")
    start = keras.initializers.Identity(gain=1.5)
    hidden = keras.layers.SimpleRNN(24, activation="relu", recurrent_initializer=start)(
        keras.layers.Embedding(TOKENS, 16)(inputs)
    )
    return Trial(functional(inputs, keras.layers.Dense(CLASSES)(hidden)), *split(x, x[:, -1] % CLASSES))


@fault("sample_mixing")
def time_first_for_a_layer_that_wants_batch_first() -> Trial:
    inputs = keras.Input((LENGTH,), dtype="int32")
    hidden = keras.ops.transpose(keras.layers.Embedding(TOKENS, 16)(inputs), (1, 0, 2))
    hidden = keras.layers.GRU(24, return_sequences=True)(hidden)
    hidden = keras.layers.Flatten()(keras.ops.transpose(hidden, (1, 0, 2)))
    return Trial(functional(inputs, keras.layers.Dense(CLASSES)(hidden)), *split(*tokens()))


@fault("conflicting_labels")
def three_annotators_who_disagree() -> Trial:
    trial = recurrent()
    rng = np.random.default_rng(44)
    x, y = np.repeat(trial.x[:210], 3, axis=0), np.repeat(trial.y[:210], 3)
    y[1::3], y[2::3] = rng.integers(0, CLASSES, 210), rng.integers(0, CLASSES, 210)
    order = rng.permutation(len(x))
    trial.x, trial.y = x[order], y[order]
    return trial


@fault("missing_classes", "distribution_shift")
def files_in_order_split_without_a_shuffle() -> Trial:
    x, y = digits()
    order = np.argsort(y[:1000], kind="stable")
    inputs = keras.Input((16, 16))
    model = functional(inputs, keras.layers.Dense(10)(keras.layers.GRU(32)(inputs)))
    return Trial(model, *split(x[order, :, :, 0], y[order]))


@fault("regularization")
def norm_of_all_gradients_held_to_a_millionth() -> Trial:
    return recurrent(
        hidden=lambda: [keras.layers.Embedding(TOKENS, 16), keras.layers.LSTM(24)],
        optimizer=keras.optimizers.SGD(0.3, momentum=0.9, global_clipnorm=1e-6),
    )


@fault("causality")
def next_token_from_both_directions() -> Trial:
    text = sentences()
    return language_model(
        lambda x: keras.layers.Bidirectional(keras.layers.GRU(16, return_sequences=True))(x), text[:, :-1], text[:, 1:]
    )


@fault("input_values")
def texts_cut_down_to_their_padding() -> Trial:
    trial = recurrent()
    trial.x, held = (np.pad(part, ((0, 0), (18, 0)))[:, :LENGTH] for part in (trial.x, trial.validation[0]))
    trial.validation = held, trial.validation[1]
    return trial


@fault("label_format", "finite_outputs")
def every_step_returned_for_one_label() -> Trial:
    return recurrent(
        hidden=lambda: [keras.layers.Embedding(TOKENS, 16), keras.layers.GRU(24, return_sequences=True)],
    )


@fault("leakage")
def overlapping_windows_split_at_random() -> Trial:
    rng = np.random.default_rng(45)
    series = np.convolve(np.cumsum(rng.normal(size=1100)), np.ones(60) / 60, "valid")
    series = ((series - series.mean()) / series.std()).astype("float32")
    windows = np.lib.stride_tricks.sliding_window_view(series, 44)[rng.permutation(len(series) - 43)]
    inputs = keras.Input((24, 1))
    model = functional(inputs, keras.layers.Dense(1)(keras.layers.GRU(16)(inputs)), loss="mse")
    return Trial(model, *split(windows[:, :24, None].copy(), windows[:, -1:].copy()))


# Transformer


@fault("causality")
def language_model_without_a_mask() -> Trial:
    text = sentences()
    return language_model(lambda x: encoder_block(encoder_block(x)), text[:, :-1], text[:, 1:])


@fault("label_format")
def language_model_that_repeats_its_inputs() -> Trial:
    text = sentences()[:, :-1]
    return language_model(lambda x: encoder_block(x, use_causal_mask=True), text, text.copy())


class WrongAxisAttention(keras.layers.Layer):
    """Attention of one head with a mask, and with the softmax over the queries."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.query, self.key, self.value = (keras.layers.Dense(width) for _ in range(3))

    def call(self, x: Any) -> Any:
        scores = keras.ops.einsum("bqd,bkd->bqk", self.query(x), self.key(x)) / self.width**0.5
        places = keras.ops.arange(x.shape[1])
        seen = keras.ops.expand_dims(places, 1) >= keras.ops.expand_dims(places, 0)
        weights = keras.ops.softmax(keras.ops.where(seen, scores, -1e9), axis=1)
        return keras.ops.einsum("bqk,bkd->bqd", weights, self.value(x))


@fault("causality")
def attention_with_softmax_over_the_queries() -> Trial:
    text = sentences()

    def layers(x: Any) -> Any:
        x = x + WrongAxisAttention(16)(keras.layers.LayerNormalization()(x))
        return x + keras.layers.Dense(16)(keras.layers.Dense(32, "gelu")(keras.layers.LayerNormalization()(x)))

    return language_model(layers, text[:, :-1], text[:, 1:])


def encoder(
    inputs: Any, embedded: Any = None, head: Any = None, count: int = 2, optimizer: Any = None, **compiled: Any
) -> Any:
    """Returns a compiled classifier of tokens from Keras layers."""
    hidden = keras.layers.Embedding(TOKENS, 16)(inputs) if embedded is None else embedded
    for _ in range(count):
        hidden = encoder_block(hidden)
    hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(hidden))
    return functional(inputs, (head or keras.layers.Dense(CLASSES))(hidden), optimizer, **compiled)


@fault("input_values", "input_ignored")
def token_numbers_scaled_as_if_pixels() -> Trial:
    x, y = tokens()
    model = encoder(keras.Input((LENGTH,)))
    return Trial(model, *split((x / TOKENS).astype("float32"), y))


@fault("input_values")
def unknown_tokens_as_minus_one() -> Trial:
    trial = transformer()
    rng = np.random.default_rng(51)
    for part in (trial.x, trial.validation[0]):
        part[rng.random(part.shape) < 0.1] = -1
    return trial


@fault("mixed_precision")
def half_precision_without_a_scaled_loss() -> Trial:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        head = keras.layers.Dense(CLASSES, dtype="float32")
        model = encoder(keras.Input((LENGTH,), dtype="int32"), head=head, auto_scale_loss=False)
    finally:
        keras.config.set_dtype_policy("float32")
    return Trial(model, *split(*tokens()))


class InverseRoot(keras.optimizers.schedules.LearningRateSchedule):
    """The schedule of the first transformer: a rise over some steps, then a fall with the root of the step."""

    def __init__(self, width: int, warmup: int) -> None:
        self.width, self.warmup = width, warmup

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32") + 1
        return self.width**-0.5 * keras.ops.minimum(step**-0.5, step * self.warmup**-1.5)

    def get_config(self) -> dict[str, int]:
        return {"width": self.width, "warmup": self.warmup}


@fault("learning_rate", "update_ratio")
def inverse_root_schedule_without_its_rise() -> Trial:
    optimizer = keras.optimizers.Adam(InverseRoot(16, 1), beta_2=0.98, epsilon=1e-9)
    return Trial(encoder(keras.Input((LENGTH,), dtype="int32"), optimizer=optimizer), *split(*tokens()))


class HardAttention(keras.layers.Layer):
    """Attention that takes the best key alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (keras.layers.Dense(width) for _ in range(3))

    def call(self, x: Any) -> Any:
        scores = keras.ops.einsum("bqd,bkd->bqk", self.query(x), self.key(x))
        best = keras.ops.one_hot(keras.ops.argmax(scores, axis=-1), x.shape[1], dtype="float32")
        return keras.ops.matmul(best, self.value(x))


@fault("gradients")
def attention_to_the_best_key_alone() -> Trial:
    inputs = keras.Input((LENGTH,), dtype="int32")
    hidden = keras.layers.Embedding(TOKENS, 16)(inputs)
    hidden = HardAttention(16)(hidden)
    return Trial(encoder(inputs, hidden, count=1), *split(*tokens()))


@fault("input_ignored")
def positions_without_the_tokens() -> Trial:
    inputs = keras.Input((LENGTH,), dtype="int32")
    places = keras.ops.cumsum(keras.ops.ones_like(inputs), axis=1) - 1
    return Trial(encoder(inputs, keras.layers.Embedding(LENGTH, 16)(places)), *split(*tokens()))


@fault("label_format", "output_activation")
def several_topics_with_a_softmax() -> Trial:
    x, _ = tokens()
    topics = np.stack([(x == token).any(axis=1) for token in (1, 4, 7, 11, 15)], axis=1).astype("float32")
    inputs = keras.Input((LENGTH,), dtype="int32")
    model = encoder(inputs, head=keras.layers.Dense(5, "softmax"), loss="categorical_crossentropy")
    return Trial(model, *split(x, topics))


@fault("class_imbalance")
def one_complaint_in_eighty() -> Trial:
    rng = np.random.default_rng(52)
    x = rng.integers(0, TOKENS, (1600, LENGTH))
    anger = (x < 5).sum(axis=1) + rng.normal(0, 1.5, 1600)
    y = (anger >= np.sort(anger)[-20]).astype("int32")
    inputs = keras.Input((LENGTH,), dtype="int32")
    model = encoder(inputs, head=keras.layers.Dense(1, "sigmoid"), loss="binary_crossentropy", metrics=["accuracy"])
    return Trial(model, *split(x, y))


@fault("regularization")
def decay_that_halves_the_weights_in_two_steps() -> Trial:
    optimizer = keras.optimizers.AdamW(3e-3, weight_decay=100.0)
    return Trial(encoder(keras.Input((LENGTH,), dtype="int32"), optimizer=optimizer), *split(*tokens()))
