import keras
import numpy as np
import pytest

from kerasblocks.diagnostics import ExpectedCalibrationError, expected_calibration_error


def predictions(shape, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(*shape, classes)).astype("float32")
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return logits, probabilities, rng.integers(0, classes, shape)


def value(metric):
    return float(keras.ops.convert_to_numpy(metric.result()))


@pytest.mark.parametrize("bins", [1, 2, 15])
@pytest.mark.parametrize("kind", ["integers", "column", "one-hot", "logits"])
def test_batches_together_give_what_all_samples_give(bins, kind):
    logits, probabilities, labels = predictions((503,))
    metric = ExpectedCalibrationError(bins, from_logits=kind == "logits")
    told = {"one-hot": np.eye(4, dtype="float32")[labels], "column": labels[:, None]}.get(kind, labels)
    for part in (slice(0, 200), slice(200, 503)):
        metric.update_state(told[part], (logits if kind == "logits" else probabilities)[part])
    assert value(metric) == pytest.approx(expected_calibration_error(probabilities, labels, bins), abs=1e-5)
    metric.reset_state()
    assert value(metric) == 0


def test_labels_of_every_position_of_a_sequence_count():
    _, probabilities, labels = predictions((7, 11))
    metric = ExpectedCalibrationError()
    metric.update_state(labels, probabilities)
    expected = expected_calibration_error(probabilities.reshape(-1, 4), labels.reshape(-1))
    assert value(metric) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("from_logits", [False, True])
def test_one_output_is_the_probability_of_class_1(from_logits):
    rng = np.random.default_rng(0)
    logit = 2 * rng.normal(size=(300, 1)).astype("float32")
    probability, labels = 1 / (1 + np.exp(-logit)), rng.integers(0, 2, (300, 1))
    metric = ExpectedCalibrationError(from_logits=from_logits)
    metric.update_state(labels, logit if from_logits else probability)
    both = np.concatenate([1 - probability.astype("float64"), probability], axis=1)
    assert value(metric) == pytest.approx(expected_calibration_error(both, labels[:, 0]), abs=1e-5)


def test_a_weight_of_two_counts_as_two_samples():
    _, probabilities, labels = predictions((100,))
    weights = np.random.default_rng(1).integers(0, 3, 100)
    metric = ExpectedCalibrationError()
    metric.update_state(labels, probabilities, weights.astype("float32"))
    expected = expected_calibration_error(np.repeat(probabilities, weights, 0), np.repeat(labels, weights))
    assert value(metric) == pytest.approx(expected, abs=1e-5)


def test_one_weight_a_sample_counts_at_all_its_positions():
    _, probabilities, labels = predictions((6, 5))
    weights = np.array([1, 0, 2, 1, 0, 1])
    metric = ExpectedCalibrationError()
    metric.update_state(labels, probabilities, weights.astype("float32")[:, None])
    expected = expected_calibration_error(
        np.repeat(probabilities, weights, 0).reshape(-1, 4), np.repeat(labels, weights, 0).reshape(-1)
    )
    assert value(metric) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_predictions_are_summed_in_float32(dtype):
    _, probabilities, labels = predictions((5000,))
    half = keras.ops.cast(probabilities, dtype)
    metric = ExpectedCalibrationError(dtype=dtype)
    metric.update_state(labels, half)
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32")).astype("float64")
    confidence, right = rounded.max(1), rounded.argmax(1) == labels
    bin_of = np.ceil(confidence * 15).astype(int)
    expected = sum(abs((right - confidence)[bin_of == number].sum()) for number in range(17)) / 5000
    assert value(metric) == pytest.approx(expected, abs=2e-5)


def test_fit_and_evaluate_report_it_and_a_saved_model_has_it(tmp_path):
    logits, probabilities, labels = predictions((64,))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Softmax()])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[ExpectedCalibrationError(10, name="ece")])
    told = model.evaluate(logits, labels, batch_size=10, verbose=0, return_dict=True)["ece"]
    assert told == pytest.approx(expected_calibration_error(probabilities, labels, 10), abs=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.evaluate(logits, labels, batch_size=64, verbose=0, return_dict=True)["ece"]
    assert again == pytest.approx(told, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        (np.zeros((3, 3)), np.zeros((3, 4))),
        (np.zeros((3, 2), int), np.zeros((3,))),
        (np.zeros((3, 2, 2)), np.zeros((3, 4))),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(labels, probabilities):
    with pytest.raises(ValueError, match=r"y_pred must have the shape \(\.\.\., classes\)"):
        ExpectedCalibrationError().update_state(labels, probabilities)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="bins must be an integer of at least 1; got 0"):
        ExpectedCalibrationError(0)
    with pytest.raises(ValueError, match="from_logits must be True or False; got 1"):
        ExpectedCalibrationError(from_logits=1)
    with pytest.raises(ValueError, match="sample_weight must have the labels' shape"):
        ExpectedCalibrationError().update_state(np.zeros(3, int), np.full((3, 2), 0.5), np.ones((3, 2)))
