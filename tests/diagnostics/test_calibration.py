import numpy as np
import pytest

from kerasblocks.diagnostics import expected_calibration_error


def random_predictions(seed=0, count=500, classes=4):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, rng.integers(0, classes, count)


@pytest.mark.parametrize("bins", [1, 2, 15])
def test_is_the_weighted_gap_of_the_bins(bins):
    probabilities, labels = random_predictions()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(expected, rel=1e-9)


def test_labels_that_are_drawn_from_the_probabilities_are_calibrated():
    probabilities, _ = random_predictions(count=20000)
    drawn = (probabilities.cumsum(1) < np.random.default_rng(1).random((20000, 1))).sum(1)
    assert expected_calibration_error(probabilities, np.minimum(drawn, 3)) < 0.02


def test_the_ends():
    sure = np.eye(3)[[0, 1, 2]]
    assert expected_calibration_error(sure, np.array([0, 1, 2])) == 0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((3, 2)), np.zeros(3, int), "add up to 1 in each row; apply softmax to logits"),
        (np.array([[2.0, -1.0]]), np.zeros(1, int), "must be 0 or more"),
        (np.full((3, 2), 0.5), np.zeros(2, int), r"got \(3, 2\) and \(2,\)"),
        (np.full((0, 2), 0.5), np.zeros(0, int), "with one sample or more"),
        (np.full((2, 2), 0.5), np.array([0, 2]), r"labels must be integers of 0\.\.1"),
        (np.full((2, 2), 0.5), np.array([0.0, 1.0]), "labels must be integers"),
    ],
    ids=["sums", "negative", "lengths", "empty", "range", "floats"],
)
def test_bad_input_is_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(probabilities, labels)
    with pytest.raises(ValueError, match="bins must be an integer of at least 1"):
        expected_calibration_error(np.full((2, 2), 0.5), np.zeros(2, int), 0)
