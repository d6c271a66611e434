import dataclasses

import numpy as np
import pytest

from kerasblocks.data import ImageData

pytestmark = pytest.mark.once


def arguments(**changes):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (4, 5, 6, 3), "uint8"),
        "y_train": np.array([0, 1, 0, 1]),
        "x_test": rng.integers(0, 256, (2, 5, 6, 3), "uint8"),
        "y_test": np.array([1, 0]),
        "class_names": ("cat", "dog"),
        "source": "somewhere",
        **changes,
    }


def floats(images=4, value=0.5):
    return np.full((images, 5, 6, 3), value, "float32")


def changed(array, value):
    array = array.copy()
    array.flat[-1] = value
    return array


def test_counts_and_shape():
    data = ImageData(**arguments())
    assert (data.num_classes, data.image_shape) == (2, (5, 6, 3))


def test_cannot_be_changed():
    data = ImageData(**arguments())
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'source'"):
        data.source = "elsewhere"


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["black", "white"])
def test_floats_may_touch_the_ends_of_their_range(value):
    data = ImageData(**arguments(x_train=floats(4, value), x_test=floats(2, value)))
    assert data.x_train.dtype == np.float32


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_labels_may_be_any_integers(dtype):
    assert ImageData(**arguments(y_train=np.array([0, 1, 1, 1], dtype))).y_train.dtype == dtype


def test_fingerprint_is_a_sha256_in_hexadecimal():
    fingerprint = ImageData(**arguments()).fingerprint
    assert len(bytes.fromhex(fingerprint)) == 32


def test_fingerprint_does_not_depend_on_the_source():
    assert ImageData(**arguments(source="a")).fingerprint == ImageData(**arguments(source="b")).fingerprint


def test_fingerprint_does_not_depend_on_the_memory_layout():
    x = arguments()["x_train"]
    assert (
        ImageData(**arguments(x_train=np.asfortranarray(x))).fingerprint
        == ImageData(**arguments(x_train=np.repeat(x, 2, axis=0)[::2])).fingerprint
        == ImageData(**arguments()).fingerprint
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"x_train": changed(arguments()["x_train"], 1)},
        {"y_train": np.array([0, 1, 1, 1])},
        {"y_train": np.array([0, 1, 0, 1], "uint8")},
        {"x_test": changed(arguments()["x_test"], 1)},
        {"y_test": np.array([0, 0])},
        {"class_names": ("dog", "cat")},
        {"class_names": ("cat", "dog", "cow")},
        {"x_train": arguments()["x_train"].reshape(4, 6, 5, 3), "x_test": arguments()["x_test"].reshape(2, 6, 5, 3)},
    ],
    ids=["x_train", "y_train", "dtype", "x_test", "y_test", "order_of_names", "names", "shape"],
)
def test_fingerprint_changes_with_the_content(changes):
    assert ImageData(**arguments(**changes)).fingerprint != ImageData(**arguments()).fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ()}, r"there must be at least one class name; got none\."),
        ({"x_train": np.zeros((4, 5, 6), "uint8")}, r"x_train must have shape \(images, .*\); got \(4, 5, 6\)\."),
        ({"x_test": np.zeros((2, 0, 6, 3), "uint8")}, r"x_test must have shape \(images, .*\); got \(2, 0, 6, 3\)\."),
        ({"x_train": np.zeros((0, 5, 6, 3), "uint8")}, r"x_train must hold at least one image; got none\."),
        ({"x_train": floats().astype("float64")}, r"x_train must be uint8 .* or float32 .*; got float64\."),
        ({"x_train": changed(floats(), np.nan)}, r"x_train must be finite; image 3 has NaN or infinite pixels\."),
        ({"x_test": changed(floats(2), -np.inf)}, r"x_test must be finite; image 1 has NaN or infinite pixels\."),
        ({"x_train": changed(floats(), 1.5)}, r"x_train of floats must lie in 0\.\.1; got 0\.5 to 1\.5\."),
        ({"x_train": changed(floats(), -0.25)}, r"x_train of floats must lie in 0\.\.1; got -0\.25 to 0\.5\."),
        (
            {"x_test": np.zeros((2, 6, 5, 3), "uint8")},
            r"must agree in shape and dtype; got \(5, 6, 3\) uint8 and \(6, 5, 3\) uint8\.",
        ),
        ({"x_test": floats(2)}, r"must agree in shape and dtype; got \(5, 6, 3\) uint8 and \(5, 6, 3\) float32\."),
        ({"y_train": np.zeros((4, 2), int)}, r"y_train must be a vector of labels.*; got shape \(4, 2\)\."),
        ({"y_train": np.zeros(4)}, r"y_train must hold integers; got float64\."),
        ({"y_train": np.zeros(4, bool)}, r"y_train must hold integers; got bool\."),
        ({"y_test": np.zeros(3, int)}, r"y_test must have one label an image; got 3 labels for 2 images\."),
        ({"y_train": np.array([0, 1, -2, 1])}, r"y_train must not be negative; got -2 at position 2\."),
        ({"y_test": np.array([0, 2])}, r"y_test must lie in 0\.\.1 \(2 classes\); got 2 at position 1\."),
    ],
    ids=[
        "no_names",
        "rank",
        "no_height",
        "no_images",
        "dtype",
        "nan",
        "infinite",
        "above_1",
        "below_0",
        "shapes_differ",
        "dtypes_differ",
        "label_rank",
        "float_labels",
        "bool_labels",
        "label_count",
        "negative_label",
        "label_too_large",
    ],
)
def test_bad_data_are_refused_with_the_source_and_the_rule(changes, message):
    with pytest.raises(ValueError, match=r"^somewhere: .*" + message):
        ImageData(**arguments(**changes))


@pytest.mark.parametrize("class_names", [("cat", 1), "cd"], ids=["number", "string"])
def test_class_names_that_are_no_tuple_of_strings_are_refused(class_names):
    with pytest.raises(ValueError, match=r"^somewhere: class_names must be a tuple of strings; got"):
        ImageData(**arguments(class_names=class_names))


def test_equal_class_names_are_refused():
    x, y = np.zeros((2, 4, 4, 1), "uint8"), np.array([0, 1])
    with pytest.raises(ValueError, match=r"mine: class_names must differ from each other; got \('a', 'a'\)"):
        ImageData(x, y, x, y, class_names=("a", "a"), source="mine")


@pytest.mark.parametrize("name", ["x_train", "y_test"])
def test_lists_are_refused(name):
    arrays = {"x_train": np.zeros((2, 4, 4, 1), "uint8"), "y_train": np.array([0, 1])}
    arrays |= {"x_test": arrays["x_train"], "y_test": arrays["y_train"]}
    arrays[name] = arrays[name].tolist()
    with pytest.raises(ValueError, match=f"mine: {name} must be a NumPy array; got list"):
        ImageData(**arrays, class_names=("a", "b"), source="mine")
