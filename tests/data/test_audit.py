import json

import keras
import numpy as np
import pytest

from kerasblocks.data import audit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 12)).astype("float32")
Y = RNG.integers(0, 4, 400)


class Dataset(keras.utils.PyDataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return X[10 * index : 10 * index + 10], Y[10 * index : 10 * index + 10]


def generator():
    for index in range(40):
        yield X[10 * index : 10 * index + 10], Y[10 * index : 10 * index + 10]


def with_value(value, *places):
    x = X.copy()
    for place in places:
        x[place] = value
    return x


def test_numbers_of_clean_data():
    found = audit(X, Y)
    (inputs,), (labels,) = found.inputs, found.labels
    assert (inputs.path, inputs.dtype, inputs.shape, inputs.features) == ("x", "float32", (12,), 12)
    assert (inputs.missing, inputs.infinite, inputs.constant, inputs.bad_samples) == (0, 0, 0, [])
    told = [inputs.least, inputs.largest, inputs.mean, inputs.deviation]
    np.testing.assert_allclose(told, [X.min(), X.max(), X.mean(dtype="float64"), X.std(dtype="float64")], rtol=1e-6)
    deviations = X.std(0, dtype="float64")
    np.testing.assert_allclose(inputs.scales, [deviations.min(), deviations.max()], rtol=1e-6)
    assert inputs.widest_feature == deviations.argmax()
    assert labels.kind == "classes"
    assert labels.counts == dict(enumerate(np.bincount(Y).tolist()))
    assert labels.imbalance == np.bincount(Y).max() / np.bincount(Y).min()
    assert labels.runs == 1 + (np.diff(Y) != 0).sum()
    assert labels.expected_runs == pytest.approx(labels.runs, rel=0.1)
    assert labels.longest_run <= 2 * labels.expected_run
    assert (found.duplicates, found.conflicting, labels.absent, labels.out_of_range) == (0, 0, [], 0)
    assert not found.coincidences


def test_all_kinds_of_batches_give_what_arrays_give():
    wanted = audit(X, Y).as_dict()
    assert audit(Dataset()).as_dict() == wanted
    assert audit(generator).as_dict() == wanted
    assert audit(keras.ops.convert_to_tensor(X), Y).as_dict() == wanted


def test_the_first_samples_of_a_number_are_looked_at():
    assert audit(X, Y, max_samples=25).samples == audit(generator, max_samples=25).samples == 25


def test_of_more_arrays_a_random_choice_is_looked_at_and_pairs_have_the_samples_own_numbers():
    labels = np.sort(Y)
    assert set(audit(X, labels, max_samples=40).labels[0].counts) == {0, 1, 2, 3}
    assert len(audit(X, np.arange(400) % 2, max_samples=200).labels[0].counts) == 2
    assert audit(np.repeat(X, 2, axis=0), max_samples=400).duplicates > 50
    x = X.copy()
    x[200:] = x[:200]
    found = audit(x, labels, max_samples=200, validation_data=(x[:3], labels[:3]))
    assert found.duplicate_pairs
    assert all(place == first + 200 for place, first in found.duplicate_pairs)
    assert all(place in (first, first - 200) for place, first in found.shared_pairs)
    assert 0.3 < found.shared_expected < 0.7  # Of half of the samples, half have their copy among them.


def test_all_samples_of_arrays_are_looked_at_for_what_is_not_finite_and_for_the_range():
    x, y = X.copy(), Y.copy()
    x[[7, 350], 1], y[399] = [np.nan, np.inf], 9
    found = audit(x, y, max_samples=20, validation_data=(x, y))
    for inputs, labels in ((found.inputs, found.labels), (found.validation_inputs, found.validation_labels)):
        assert (inputs[0].missing, inputs[0].infinite, inputs[0].bad_samples) == (1, 1, [7, 350])
        assert inputs[0].largest == np.nanmax(np.where(np.isfinite(x), x, np.nan))
        assert labels[0].largest == 9
    assert "validation x: 1 NaN and 1 infinite, as in samples [7, 350]" in str(found)


def test_one_hot_choices_coincide_as_the_choices_do():
    choices = RNG.integers(0, 3, (300, 6))
    assert audit(choices).coincidences
    assert audit(np.eye(3)[choices].reshape(300, -1)).coincidences
    assert not audit(np.eye(30)[RNG.integers(0, 30, (300, 6))].reshape(300, -1)).coincidences


def test_dicts_are_matched_by_their_keys():
    x = {"a": X[:200], "b": 9 + X[:200, :3]}
    found = audit(x, validation_data=({"b": x["b"], "a": x["a"]},))
    assert [each.path for each in found.inputs] == ["x['a']", "x['b']"]
    assert found.shared == 200
    assert found.shift.statistic == 0
    with pytest.raises(ValueError, match="must have equal shapes"):
        audit(x, validation_data=({"a": x["a"], "c": x["b"]},))


def test_batches_of_padded_texts_are_padded_to_the_longest():
    def texts():
        yield np.ones((4, 3), int), np.zeros(4)
        yield np.ones((4, 5), int), np.zeros(4)

    (inputs,) = audit(texts).inputs
    assert (inputs.shape, inputs.least) == ((5,), 0)


def test_text_that_looks_like_a_number_is_none():
    (inputs,) = audit(np.array([["1", "2"], ["3", "4"]])).inputs
    assert inputs.least is None
    (inputs,) = audit(np.array([["1", "2"], ["3", "4"]], object)).inputs
    assert inputs.least is None


def test_images_with_an_empty_border_are_different_ones():
    images = np.zeros((300, 28, 28, 1), "uint8")
    images[:, 8:20, 8:20] = RNG.integers(0, 255, (300, 12, 12, 1))
    assert not audit(images, Y[:300]).coincidences


def test_what_is_not_finite_is_counted_and_its_samples_named():
    x = with_value(np.nan, (3, 1), (9, 0), (9, 1))
    x[20, 5] = -np.inf
    inputs = audit(x, np.where(np.arange(400) == 8, np.nan, Y)).inputs[0]
    assert (inputs.missing, inputs.infinite, inputs.bad_samples) == (3, 1, [3, 9, 20])
    assert inputs.least == np.nanmin(np.where(np.isinf(x), np.nan, x))
    labels = audit(X, np.where(np.arange(400) == 8, np.nan, Y)).labels[0]
    assert (labels.missing, labels.bad_samples, labels.kind) == (1, [8], "classes")
    assert sum(labels.counts.values()) == 399


def test_features_that_never_change_and_those_of_other_scales():
    x = X * np.where(np.arange(12) == 7, 1e5, 1).astype("float32")
    x[:, 3] = 2.5
    inputs = audit(x, Y).inputs[0]
    assert (inputs.constant, inputs.constant_features, inputs.widest_feature) == (1, [3], 7)
    assert inputs.scales[1] / inputs.scales[0] > 5e4


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (Y, "classes"),
        (Y.astype("float32")[:, None], "classes"),
        (Y % 2 == 0, "classes"),
        (np.eye(4)[Y], "one-hot"),
        (np.full((400, 4), 0.25), "probabilities"),
        (RNG.integers(0, 2, (400, 5)), "flags"),
        (X[:, 0], "numbers"),
        (X[:, :3], "numbers"),
        (np.arange(400), "numbers"),
        (RNG.integers(0, 9, (400, 7)), "classes"),
        (np.array(["a", "b"])[Y % 2], "other"),
    ],
    ids=[
        "integers",
        "floats",
        "booleans",
        "one-hot",
        "probabilities",
        "flags",
        "numbers",
        "columns",
        "all differ",
        "tokens",
        "text",
    ],
)
def test_labels_are_told_apart(labels, kind):
    (found,) = audit(X, labels).labels
    assert found.kind == kind
    assert bool(found.counts) == (kind in ("classes", "one-hot"))


def test_classes_that_are_absent_out_of_range_or_rare():
    labels = np.where(Y == 2, 0, Y)
    labels[:390] = np.where(labels[:390] == 3, 1, labels[:390])
    (found,) = audit(X, labels, num_classes=4).labels
    assert found.absent == [2]
    assert found.imbalance > 20
    (found,) = audit(X, Y + 1, num_classes=4).labels
    assert (found.out_of_range, found.absent) == ((Y == 3).sum(), [0])
    (found,) = audit(X, np.eye(6)[Y]).labels
    assert found.absent == [4, 5]


def test_sorted_labels_have_few_runs():
    (found,) = audit(X, np.sort(Y)).labels
    assert found.runs == 4
    assert found.longest_run == np.bincount(Y).max() > 10 * found.expected_run
    assert found.expected_runs > 250


def test_duplicates_and_labels_that_conflict():
    x, labels = X.copy(), Y.copy()
    x[[100, 200, 300]] = x[5]
    labels[[100, 200]], labels[300] = labels[5], (labels[5] + 1) % 4
    found = audit(x, labels)
    assert (found.duplicates, found.duplicate_pairs) == (3, [(100, 5), (200, 5), (300, 5)])
    assert (found.conflicting, found.conflicting_pairs) == (1, [(300, 5)])


def test_inputs_must_be_equal_in_all_arrays_to_be_duplicates():
    other = np.arange(400)[:, None]
    x = X.copy()
    x[7] = x[3]
    assert audit({"a": x, "b": other}, Y).duplicates == 0
    assert [each.path for each in audit({"a": x, "b": other}, Y).inputs] == ["x['a']", "x['b']"]
    assert audit((x, np.where(other == 7, 3, other)), Y).duplicate_pairs == [(7, 3)]


def test_few_different_samples_coincide_by_nature():
    few = RNG.integers(0, 3, (400, 4))
    assert audit(few, Y).coincidences
    assert not audit(RNG.integers(0, 3, (400, 40)), Y).coincidences


def test_validation_samples_that_were_trained_on():
    validation = RNG.normal(size=(60, 12)).astype("float32")
    validation[[4, 9]] = X[[17, 230]]
    found = audit(X, Y, validation_data=(validation, Y[:60]))
    assert (found.validation_samples, found.shared, found.shared_pairs) == (60, 2, [(4, 17), (9, 230)])
    assert (found.near, found.near_pairs) == (0, [])
    assert audit(X, Y, validation_data=(validation.astype("float64"), Y[:60])).shared == 2


@pytest.mark.parametrize("shape", [(12,), (9, 9, 1), (40, 3)], ids=str)
def test_near_copies_are_found_and_others_are_not(shape):
    rng = np.random.default_rng(1)
    train, validation = rng.normal(size=(300, *shape)), rng.normal(size=(50, *shape))
    validation[[3, 30]] = train[[8, 99]] + 0.01 * rng.normal(size=(2, *shape))
    found = audit(train, validation_data=(validation,))
    assert (found.near, found.near_pairs) == (2, [(3, 8), (30, 99)])
    assert found.near_expected == found.shared == 0


def test_near_copies_are_found_among_photographs_as_pixels():
    from kerasblocks.data import load_images

    data = load_images("digits")
    brighter = np.clip(data.x_train[:40].astype(int) + 2, 0, 255).astype("uint8")
    found = audit(data.x_train, validation_data=(np.concatenate([brighter, data.x_test]),))
    assert found.near == 40
    assert {place for place, _ in found.near_pairs} <= set(range(40))


def test_a_shift_is_named_and_two_halves_have_none():
    half = audit(X[:200], Y[:200], validation_data=(X[200:], Y[200:])).shift
    assert half.statistic < half.threshold
    assert half.labels < half.labels_threshold
    moved = X[200:].copy()
    moved[:, 5] += 2
    shift = audit(X[:200], Y[:200], validation_data=(moved, np.zeros(200, int))).shift
    assert shift.quantity == "x[5]"
    assert shift.statistic > shift.threshold
    assert shift.means == pytest.approx((X[:200, 5].mean(), X[200:, 5].mean() + 2), rel=1e-5)
    assert shift.labels == pytest.approx(1 - (Y[:200] == 0).mean())
    assert shift.labels > shift.labels_threshold


def test_images_of_another_brightness_are_a_shift():
    images = RNG.random((100, 6, 6, 3))
    shift = audit(images, validation_data=(images[::-1] * 0.5,)).shift
    assert shift.quantity in ("mean of x", "deviation of x")
    assert shift.statistic == 1 > shift.threshold


def test_half_precision_and_text_are_looked_at():
    half = audit(X.astype("float16"), Y).inputs[0]
    assert half.deviation == pytest.approx(X.std(), rel=1e-3)
    text = np.array([f"word {number % 300}" for number in range(400)])
    found = audit(text, Y)
    assert found.duplicates == 100
    assert found.inputs[0].least is None
    shifted = audit(text, Y, validation_data=(text[:50], np.zeros(50, int)))
    assert shifted.shift.labels > 0.5
    json.dumps(shifted.as_dict(), allow_nan=False)


def test_it_is_told_in_words_and_as_json():
    found = audit(with_value(np.nan, (3, 1)), Y, validation_data=(X[:9], Y[:9]))
    assert "400 samples" in str(found)
    assert "x: 1 NaN and 0 infinite, as in samples [3]" in str(found)
    assert "validation: 9 samples, of which 8 are in the training data" in str(found)
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["labels"][0]["counts"]["0"] == (Y == 0).sum()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X, Y[:3]), {}, "equally many samples"),
        ((X[:0], Y[:0]), {}, "There must be at least one sample; got none"),
        ((generator(),), {}, "pass a function that makes one"),
        ((Dataset(), Y), {}, "y and sample_weight must be part of the batches"),
        ((lambda: iter(()),), {}, "There must be at least one batch; got none"),
        ((X, Y), {"max_samples": 0}, "max_samples must be an integer of at least 1; got 0"),
        ((X, Y), {"num_classes": 0}, "num_classes must be an integer of at least 1; got 0"),
        ((X, Y), {"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ((X, Y), {"validation_data": (X[:, :3], Y)}, "Training and validation inputs must have equal shapes"),
        ((X, Y), {"validation_data": ({"a": X}, Y, Y, Y)}, "validation_data must be"),
    ],
    ids=["lengths", "empty", "generator", "labels", "no batch", "most", "classes", "seed", "shapes", "parts"],
)
def test_bad_input_is_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        audit(*arguments, **options)


def test_windows_of_one_series_overlap():
    series = np.cumsum(RNG.normal(size=(500, 2)), axis=0).astype("float32")
    windows = np.stack([series[start : start + 20] for start in range(0, 480, 3)])
    found = audit(windows[::2], validation_data=(windows[1::2],))
    assert (found.shared, found.overlapping) == (0, len(windows) // 2)
    assert all(abs((2 * one + 1) - 2 * other) * 3 <= 10 for one, other in found.overlapping_pairs)
    assert audit(windows[:80], validation_data=(windows[84:],)).overlapping == 0
    assert audit(np.zeros((9, 20)), validation_data=(np.zeros((9, 20)),)).overlapping == 0
    assert audit(X, validation_data=(X + 1,)).overlapping == 0
