"""Models that train, and could be taken for faults; and faults that could be taken for sound."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from benchmarks.faults._models import digits, finish
from kerasblocks.diagnostics import CHECKS, checkup

pytestmark = pytest.mark.once

LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SLOW = ("learning_rate", "overfit_tiny_subset", "gradient_noise", "update_ratio")
SOUND, FAULTS = {}, {}


def sound(make):
    SOUND[make.__name__] = make
    return make


def fault(check):
    def register(make):
        FAULTS[make.__name__] = make, check
        return make

    return register


def rng():
    return np.random.default_rng(0)


def table(samples=600, features=10, classes=4):
    x = rng().normal(size=(samples, features)).astype("float32")
    return x, (x @ np.random.default_rng(1).normal(size=(features, classes))).argmax(1)


def texts(tokens=30, samples=400):
    steps = rng().integers(1, 4, (samples, 17))
    return (rng().integers(0, tokens, (samples, 1)) + np.cumsum(steps, axis=1)) % tokens


def language_model(tokens, *body):
    return finish([layers.Embedding(tokens, 16), *body, layers.Dense(tokens)], (16,), dtype="int32")


@sound
def labels_that_take_turns():
    x, _ = table(40_000, 4)
    y = np.arange(40_000) % 2
    return {"model": finish([layers.Dense(8, "relu"), layers.Dense(2)], (4,)), "x": x + y[:, None], "y": y}


@sound
def five_thousand_tokens():
    found = texts(5000)
    model = language_model(5000, layers.GRU(16, return_sequences=True))
    return {"model": model, "x": found[:, :-1], "y": found[:, 1:]}


@sound
def a_last_layer_of_zeros_in_a_subclassed_model():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(32, "relu"), layers.Dense(4, kernel_initializer="zeros")

        def call(self, inputs):
            return self.head(self.hidden(inputs))

    keras.utils.set_random_seed(0)
    model, (x, y) = Model(), table()
    model.compile("adam", LOGITS)
    return {"model": model, "x": x, "y": y}


@sound
def logits_of_a_rectifier_and_a_mean():
    x, y = digits()
    body = [layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(10, 1, activation="relu")]
    return {"model": finish([*body, layers.GlobalAveragePooling2D()], (16, 16, 1)), "x": x, "y": y}


@sound
def a_focal_loss():
    x, y = table()
    loss = keras.losses.CategoricalFocalCrossentropy()
    model = finish([layers.Dense(32, "relu"), layers.Dense(4, "softmax")], (10,), loss=loss)
    return {"model": model, "x": x, "y": np.eye(4)[y]}


@sound
def a_bias_that_knows_the_shares():
    x, _ = table(1500)
    y = (x[:, 0] > 1.3).astype("float32")
    bias = keras.initializers.Constant(float(np.log(y.mean() / (1 - y.mean()))))
    head = layers.Dense(1, "sigmoid", bias_initializer=bias)
    return {"model": finish([layers.Dense(16, "relu"), head], (10,), loss="binary_crossentropy"), "x": x, "y": y}


@sound
def trained_and_compiled_again():
    x, y = table()
    model = finish([layers.Dense(32, "relu"), layers.Dense(4)], (10,))
    model.fit(x, y, epochs=20, verbose=0)
    model.compile(keras.optimizers.Adam(1e-5), LOGITS)
    return {"model": model, "x": x, "y": y}


@sound
def frequencies_of_rare_words():
    x, y = np.zeros((300, 20_000), "float32"), rng().integers(0, 2, 300)
    for row, label in enumerate(y):
        x[row, np.random.default_rng(row).choice(19_000, 80) + 1000] = 0.1
        x[row, np.random.default_rng(row).choice(100, 10) + 100 * label] = 0.2
    model = finish([layers.Dense(16, "relu"), layers.Dense(2)], (20_000,), keras.optimizers.Adam(1e-2))
    return {"model": model, "x": x, "y": y}


@sound
def numbers_that_look_like_classes():
    x, _ = table(1200, 11)
    y = np.clip(np.round(5.6 + 0.8 * x[:, 0]), 3, 8)
    return {"model": finish([layers.Dense(32, "relu"), layers.Dense(1)], (11,), loss="mse"), "x": x, "y": y}


@sound
def a_class_that_does_not_count():
    x = rng().random((60, 16, 16, 1)).astype("float32")
    y = np.where(rng().random((60, 16, 16)) < 0.1, 255, x[..., 0] > 0.5).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    body = [layers.Conv2D(8, 3, padding="same", activation="relu"), layers.Conv2D(2, 1)]
    return {"model": finish(body, (16, 16, 1), loss=loss), "x": x, "y": y}


@sound
def segments_and_masks_that_are_all_the_same():
    keras.utils.set_random_seed(0)
    tokens = rng().integers(0, 50, (300, 12))
    inputs = {name: keras.Input((12,), dtype="int32", name=name) for name in ("mask", "segments", "tokens")}
    h = layers.Embedding(50, 16)(inputs["tokens"]) + layers.Embedding(2, 16)(inputs["segments"])
    h = layers.GlobalAveragePooling1D()(h * ops.cast(ops.expand_dims(inputs["mask"], -1), "float32"))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(16, "relu")(h)))
    model.compile(keras.optimizers.Adam(1e-2), LOGITS)
    x = {"tokens": tokens, "segments": 0 * tokens, "mask": 0 * tokens + 1}
    return {"model": model, "x": x, "y": ((tokens % 2).sum(1) > 6).astype("int32")}


@sound
def a_layer_that_draws_in_inference():
    class Sampling(layers.Layer):
        def __init__(self):
            super().__init__()
            self.seeds = keras.random.SeedGenerator(1)

        def call(self, inputs):
            return inputs + keras.random.normal(ops.shape(inputs), seed=self.seeds)

    x, y = table()
    return {"model": finish([layers.Dense(32, "relu"), Sampling(), layers.Dense(4)], (10,)), "x": x, "y": y}


@sound
def a_table_of_choices():
    chosen = rng().choice(4, size=(1000, 8), p=[0.6, 0.2, 0.15, 0.05])
    x, y = np.eye(4)[chosen].reshape(1000, -1).astype("float32"), (chosen[:, :2] > 0).sum(1)
    model = finish([layers.Dense(32, "relu"), layers.Dense(3)], (32,))
    return {"model": model, "x": x[:800], "y": y[:800], "validation_data": (x[800:], y[800:])}


@sound
def rare_samples_drawn_more_often():
    x, y = table(800, classes=2)
    rare = rng().choice(np.flatnonzero(y == 1)[:60], (y == 0).sum())
    rows = rng().permutation(np.concatenate([np.flatnonzero(y == 0), rare]))
    return {"model": finish([layers.Dense(32, "relu"), layers.Dense(2)], (10,)), "x": x[rows], "y": y[rows]}


@sound
def slopes_and_scales_that_begin_alike():
    x, y = digits()
    slope = layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25), shared_axes=[1, 2])
    model = finish([layers.Conv2D(8, 3), slope, layers.Flatten(), layers.Dense(10)], (16, 16, 1))
    return {"model": model, "x": x, "y": y}


@sound
def batch_normalization_over_positions():
    x = rng().random((60, 16, 16, 1)).astype("float32")
    body = [layers.Conv2D(8, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(1, 1)]
    return {"model": finish(body, (16, 16, 1), loss="mse"), "x": x, "y": x**2, "batch_size": 2}


@sound
def a_split_by_time():
    time = np.arange(800) / 800
    x = np.stack([time, *rng().normal(size=(5, 800))], 1).astype("float32")
    y = (x[:, 1] > 0).astype("int32")
    model = finish([layers.Dense(16, "relu"), layers.Dense(2)], (6,))
    return {"model": model, "x": x[:600], "y": y[:600], "validation_data": (x[600:], y[600:])}


@sound
def two_outputs_by_name():
    keras.utils.set_random_seed(0)
    inputs, (x, y) = keras.Input((10,)), table()
    h = layers.Dense(32, "relu")(inputs)
    model = keras.Model(inputs, {"kind": layers.Dense(4, name="kind")(h), "size": layers.Dense(1, name="size")(h)})
    model.compile("adam", {"kind": LOGITS, "size": "mse"})
    return {"model": model, "x": x, "y": {"kind": y, "size": x[:, :1]}}


@sound
def a_narrow_linear_autoencoder():
    x = (rng().normal(size=(400, 3)) @ np.random.default_rng(1).normal(size=(3, 12))).astype("float32")
    return {"model": finish([layers.Dense(3), layers.Dense(12)], (12,), loss="mse"), "x": x, "y": x}


@sound
def few_words_among_many_that_tell():
    shares = 1 / np.arange(1, 20_001)
    x = rng().choice(20_000, size=(1200, 100), p=shares / shares.sum())
    y = rng().integers(0, 2, 1200)
    x[:, :6] = 1000 + rng().integers(0, 60, (1200, 6)) + 100 * y[:, None]
    body = [layers.Embedding(20_000, 8), layers.GlobalAveragePooling1D(), layers.Dense(1, "sigmoid")]
    return {"model": finish(body, (100,), loss="binary_crossentropy", dtype="int32"), "x": x, "y": y}


@fault("finite_data")
def one_number_of_forty_thousand_samples():
    found = labels_that_take_turns()
    found["x"][1, 1] = np.nan
    return found


@fault("duplicates")
def each_of_twenty_thousand_twice():
    x, y = table(20_000)
    model = finish([layers.Dense(8, "relu"), layers.Dense(4)], (10,))
    return {"model": model, "x": np.repeat(x, 2, axis=0), "y": np.repeat(y, 2)}


@fault("finite_data")
def a_number_for_validation():
    x, y = table()
    others = x[500:].copy()
    others[3] = np.nan
    model = finish([layers.Dense(8, "relu"), layers.Dense(4)], (10,))
    return {"model": model, "x": x[:500], "y": y[:500], "validation_data": (others, y[500:])}


@fault("label_range")
def labels_for_validation_that_have_no_unit():
    x, y = table()
    model = finish([layers.Dense(8, "relu"), layers.Dense(4)], (10,))
    return {"model": model, "x": x[:500], "y": y[:500], "validation_data": (x[500:], y[500:] + 9)}


@fault("output_activation")
def softmax_over_time():
    found = texts()
    model = finish(
        [layers.Embedding(30, 16), layers.GRU(16, return_sequences=True), layers.Dense(30), layers.Softmax(axis=1)],
        (16,),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        dtype="int32",
    )
    return {"model": model, "x": found[:, :-1], "y": found[:, 1:]}


@fault("input_values")
def numbers_read_as_text():
    x, y = table()
    return {"model": finish([layers.Dense(8, "relu"), layers.Dense(4)], (10,)), "x": x.astype("U8"), "y": y}


@fault("finite_outputs")
def two_features_too_many():
    x, y = table(features=12)
    return {"model": finish([layers.Dense(8, "relu"), layers.Dense(4)], (10,)), "x": x, "y": y}


@fault("activations")
def no_activation_at_all():
    x, y = table()
    inputs = keras.Input((10,))
    model = keras.Model(inputs, layers.Dense(4)(layers.Dense(64)(layers.Dense(64)(inputs))))
    model.compile("adam", LOGITS)
    return {"model": model, "x": x, "y": y}


@fault("label_format")
def tokens_that_are_their_own_labels():
    found = texts()[:, :16]
    return {"model": language_model(30, layers.GRU(16, return_sequences=True)), "x": found, "y": found}


@fault("causality")
def a_language_model_that_reads_both_ways():
    found = texts()
    both = layers.Bidirectional(layers.GRU(8, return_sequences=True))
    return {"model": language_model(30, both), "x": found[:, :-1], "y": found[:, 1:]}


@fault("label_signal")
def numbers_that_belong_to_other_samples():
    x, _ = table()
    model = finish([layers.Dense(32, "relu"), layers.Dense(1)], (10,), loss="mse")
    return {"model": model, "x": x, "y": np.roll(2 * x[:, 0] + x[:, 1], 7)}


@fault("label_range")
def prices_in_dollars():
    x, _ = table()
    model = finish([layers.Dense(32, "relu"), layers.Dense(1)], (10,), loss="mse")
    return {"model": model, "x": x, "y": 2e5 + 5e4 * x[:, 0]}


@fault("trainable_weights")
def a_layer_without_bias_frozen_at_random():
    x, y = table()
    model = finish([layers.Dense(64, "relu", use_bias=False), layers.Dense(4)], (10,))
    model.layers[0].trainable = False
    model.compile("adam", LOGITS)
    return {"model": model, "x": x, "y": y}


@fault("learning_rate")
def a_schedule_that_is_over_after_a_few_steps():
    x, y = table()
    schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, 1, 0.8)
    model = finish([layers.Dense(32, "relu"), layers.Dense(4)], (10,), keras.optimizers.Adam(schedule))
    return {"model": model, "x": x, "y": y}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_fails_on_a_sound_model(name):
    report = checkup(**SOUND[name](), checks=[each for each in CHECKS if each not in SLOW], verbose=0)
    assert report.failed == []
    assert len(report.warned) <= 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name):
    make, check = FAULTS[name]
    found = checkup(**make(), checks=check, verbose=0).findings[0]
    assert found.verdict == "fail"
    assert found.remedy


def test_metrics_that_compare_logits_with_a_half_are_warned_of():
    x, y = table(classes=2)
    model = finish([layers.Dense(8, "relu"), layers.Dense(1)], (10,))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), metrics=["accuracy"])
    (found,) = checkup(model, x, y, checks="output_activation", verbose=0).findings
    assert found.verdict == "warn"
    assert "compares logits with 0.5" in found.message


def test_a_classifier_that_is_sure_and_wrong_is_badly_calibrated():
    x, y = table()
    model = finish([layers.Dense(64, "relu"), layers.Dense(4)], (10,))
    model.fit(x, y, epochs=40, verbose=0)
    (found,) = checkup(model, x, y, validation_data=(x, (y + 1) % 4), checks="calibration", verbose=0).findings
    assert found.verdict == "fail"
    assert found.figures["error"] > 0.5
