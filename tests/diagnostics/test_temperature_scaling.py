import keras
import numpy as np
import pytest

from kerasblocks.diagnostics import TemperatureScaling, expected_calibration_error


def drawn(temperature, count=20000, classes=5, seed=0):
    """Returns logits, and labels drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(count, classes))
    return logits, (logits / temperature + rng.gumbel(size=logits.shape)).argmax(1)


def cross_entropy(logits, labels):
    top = logits.max(1, keepdims=True)
    return float((np.log(np.exp(logits - top).sum(1)) + top[:, 0] - logits[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_finds_the_temperature_that_labels_were_drawn_with(temperature):
    logits, labels = drawn(temperature)
    assert TemperatureScaling().fit(logits, labels).temperature == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_no_temperature_near_it_has_a_lower_cross_entropy(scale):
    logits, labels = drawn(2.0, count=500)
    found = TemperatureScaling().fit(scale * logits, labels).temperature / scale
    best = min(np.linspace(0.97, 1.03, 61), key=lambda factor: cross_entropy(logits / (found * factor), labels))
    assert best == pytest.approx(1, abs=0.0011)


def test_a_model_that_is_too_sure_becomes_calibrated():
    logits, labels = drawn(3.0)
    scaling = TemperatureScaling().fit(logits[:10000], labels[:10000])
    before, after = (
        expected_calibration_error(keras.ops.convert_to_numpy(keras.ops.softmax(each)), labels[10000:])
        for each in (logits[10000:].astype("float32"), scaling(logits[10000:].astype("float32")))
    )
    assert before > 0.2
    assert after < 0.02


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("kind", ["labels", "column", "one-hot"])
def test_probabilities_give_what_their_logits_give(classes, kind):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(400, classes))
    labels = rng.integers(0, max(2, classes), 400)
    labels[:300] = logits.argmax(1)[:300] if classes > 1 else logits[:300, 0] > 0
    exponent = np.exp(logits)
    probabilities = exponent / (1 + exponent if classes == 1 else exponent.sum(1, keepdims=True))
    told = {"column": labels[:, None], "one-hot": np.eye(classes)[labels] if classes > 1 else labels[:, None]}
    told = told.get(kind, labels)
    by_logits = TemperatureScaling().fit(logits, told)
    by_probabilities = TemperatureScaling(from_logits=False).fit(probabilities, told)
    assert by_probabilities.temperature == pytest.approx(by_logits.temperature, rel=1e-5)
    scaled = keras.ops.convert_to_numpy(by_logits(logits.astype("float32")))
    expected = 1 / (1 + np.exp(-scaled)) if classes == 1 else np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    found = keras.ops.convert_to_numpy(by_probabilities(probabilities.astype("float32")))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_weights_count():
    logits, labels = drawn(2.0, count=300)
    weights = np.random.default_rng(1).integers(0, 3, 300)
    weighted = TemperatureScaling().fit(logits, labels, weights).temperature
    repeated = TemperatureScaling().fit(np.repeat(logits, weights, 0), np.repeat(labels, weights)).temperature
    assert weighted == pytest.approx(repeated, rel=1e-6)


def test_every_position_of_a_sequence_counts():
    logits, labels = drawn(2.0, count=300)
    flat = TemperatureScaling().fit(logits, labels).temperature
    assert TemperatureScaling().fit(logits.reshape(30, 10, 5), labels.reshape(30, 10)).temperature == flat


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_calibrated_model_is_saved_with_its_temperature(policy, tmp_path):
    logits, labels = drawn(3.0, count=500)
    scaling = TemperatureScaling(1.5, dtype=policy, name="scaling")
    config = scaling.get_config()
    model = keras.Sequential([keras.Input((5,)), scaling])
    scaling.fit(logits, labels)
    assert scaling.get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("scaling").temperature == scaling.temperature != 1.5
    assert loaded.layers[-1].trainable_variables == []
    x = logits.astype("float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    ("logits", "labels", "options", "message"),
    [
        (np.eye(3), np.array([0, 1, 2]), {}, "every prediction is right"),
        (-np.eye(3), np.array([0, 1, 2]), {}, "no better than chance"),
        (np.eye(3), np.array([0, 1, 3]), {}, r"labels must be integers of 0\.\.2"),
        (np.eye(3), np.array([0, 1, 0.5]), {}, r"labels must be integers of 0\.\.2"),
        (np.eye(3), np.array([0, 1]), {}, r"labels must have the shape \(3,\); got \(2,\)"),
        (np.zeros(3), np.zeros(3), {}, r"outputs must have the shape \(\.\.\., classes\)"),
        (np.full((2, 2), np.nan), np.array([0, 1]), {}, "outputs must be finite"),
        (2 * np.eye(2), np.array([0, 1]), {"from_logits": False}, r"probabilities of 0\.\.1"),
    ],
    ids=["right", "chance", "range", "fraction", "lengths", "rank", "nan", "no probabilities"],
)
def test_what_has_no_temperature_is_refused_and_nothing_is_lost(logits, labels, options, message):
    scaling = TemperatureScaling(2.0, **options)
    with pytest.raises(ValueError, match=message):
        scaling.fit(logits, labels)
    assert scaling.temperature == 2.0


@pytest.mark.parametrize("weights", [[1.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]], ids=str)
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="sample_weight must be finite, 0 or more"):
        TemperatureScaling().fit(np.eye(3), np.array([0, 1, 1]), weights)


@pytest.mark.parametrize("temperature", [0, -1.0, np.inf, "hot"])
def test_bad_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be"):
        TemperatureScaling(temperature)
