import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from kerasblocks.data import load_images, names_class_folders

KERAS_NAMES = ["mnist", "fashion_mnist", "cifar10"]


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "colour.npz"
    np.savez(
        path,
        x_train=rng.integers(0, 256, (12, 5, 4, 3), "uint8"),
        y_train=np.arange(12) % 3,
        x_test=rng.integers(0, 256, (6, 5, 4, 3), "uint8"),
        y_test=np.arange(6) % 3,
    )
    return path


def write_npz(folder, **arrays):
    path = folder / "changed.npz"
    np.savez(path, **arrays)
    return path


def images(data):
    return sorted(image.tobytes() for image in (*data.x_train, *data.x_test))


def test_the_default_is_the_embedded_digits():
    data = load_images()
    assert (data.source, data.class_names) == ("digits", tuple("0123456789"))
    assert (len(data.x_train), len(data.x_test), data.image_shape) == (1438, 359, (8, 8, 1))
    assert data.x_train.dtype == np.uint8


def test_the_digits_are_all_there_with_their_grey_levels_spread():
    pixels, labels = load_digits(return_X_y=True)
    data = load_images("digits")
    assert images(data) == sorted(image.tobytes() for image in np.rint(pixels * 255 / 16).astype("uint8"))
    np.testing.assert_array_equal(np.bincount(data.y_train) + np.bincount(data.y_test), np.bincount(labels))


def test_the_digits_keep_their_labels():
    pixels, labels = load_digits(return_X_y=True)
    spread = np.rint(pixels * 255 / 16).astype("uint8")
    label_of = {image.tobytes(): label for image, label in zip(spread, labels, strict=True)}
    data = load_images("digits")
    assert [label_of[image.tobytes()] for image in data.x_test] == data.y_test.tolist()
    assert [label_of[image.tobytes()] for image in data.x_train] == data.y_train.tolist()


def test_a_fifth_of_every_digit_is_for_testing():
    data = load_images("digits")
    tested, trained = np.bincount(data.y_test), np.bincount(data.y_train)
    np.testing.assert_array_equal(tested, np.round((tested + trained) / 5))


def test_the_digits_are_always_the_same():
    assert load_images("digits").fingerprint == "b7357af11e470cab9c68eea5695f97ebcbe81a144ac27eccd2e1895e08c1a6d4"


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"digits need scikit-learn\. .* pip install scikit-learn"):
        load_images("digits")


def test_a_known_name_is_not_looked_for_on_the_disk(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_images("digits", limit=1).source == "digits"


@pytest.mark.parametrize("source", ["./digits", Path("digits")], ids=["string", "path"])
def test_a_path_of_a_known_name_is_a_folder(tmp_path, monkeypatch, source):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^digits: must hold one folder a class; found none\."):
        load_images(source)


@pytest.mark.parametrize("as_source", [str, Path], ids=["string", "path"])
def test_a_file_may_be_named_by_string_or_path(npz, as_source):
    assert len(load_images(as_source(npz)).x_train) == 12


@pytest.mark.parametrize("source", ["imagenet", "nowhere/data.npz", "MNIST"])
def test_an_unknown_source_is_refused_with_the_known_names(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    message = (
        f"{source}: no such folder or file, and not one of the known data sets "
        "'digits', 'photos', 'mnist', 'fashion_mnist', 'cifar10'."
    )
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}"):
        load_images(source)


@pytest.mark.parametrize("name", ["a.csv", "train-images-idx3-ubyte", "a.png"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: a data file must be an \.npz; .* its folder\."):
        load_images(path)


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_a_data_set_of_keras_is_taken(monkeypatch, name):
    rng = np.random.default_rng(0)
    shape = (32, 32, 3) if name == "cifar10" else (28, 28)
    x, y = rng.integers(0, 256, (20, *shape), "uint8"), np.arange(20, dtype="uint8") % 10
    labels = y[:, None] if name == "cifar10" else y
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: ((x, labels), (x[:10], labels[:10])))
    data = load_images(name)
    np.testing.assert_array_equal(data.x_train, x.reshape(20, *shape[:2], -1))
    np.testing.assert_array_equal(data.y_train, y)
    assert (data.source, data.num_classes, len(data.x_test)) == (name, 10, 10)


@pytest.mark.parametrize(
    "error", [Exception("URL fetch failure on https://x: 403"), ConnectionResetError("reset")], ids=repr
)
@pytest.mark.parametrize("name", KERAS_NAMES)
def test_offline_the_error_names_the_other_sources(monkeypatch, name, error):
    def load_data():
        raise error

    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)
    message = (
        rf"^'{name}' is not in Keras's cache and could not be downloaded; .*offline \({re.escape(str(error))}\)\. "
        r"Pass a folder of IDX files, .* \.npz file instead, or use the embedded 'digits'\."
    )
    with pytest.raises(ConnectionError, match=message):
        load_images(name)


def test_another_error_of_keras_is_not_called_offline(monkeypatch):
    def load_data():
        raise ValueError("Incomplete or corrupted file detected.")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(ValueError, match=r"^Incomplete or corrupted file detected\."):
        load_images("mnist")


@pytest.mark.parametrize("limit", [1, 3, 7, 12], ids=lambda limit: f"limit={limit}")
def test_limit_takes_from_the_classes_in_turn(npz, limit):
    counts = np.bincount(load_images(npz, limit=limit).y_train, minlength=3)
    assert counts.sum() == limit
    assert counts.max() - counts.min() <= 1


def test_limit_keeps_the_first_of_each_class_in_their_order(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["y_train"] = np.array([2, 2, 2, 1, 0, 1, 0, 1, 0, 1, 0, 2])
    limited = load_images(write_npz(tmp_path, **arrays), limit=5)
    np.testing.assert_array_equal(limited.x_train, arrays["x_train"][[0, 3, 4, 5, 6]])
    np.testing.assert_array_equal(limited.y_train, [2, 1, 0, 1, 0])


def test_limit_goes_on_when_a_class_is_used_up(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["y_train"] = np.array([0] * 9 + [1] * 2 + [2])
    data = load_images(write_npz(tmp_path, **arrays), limit=8)
    assert np.bincount(data.y_train).tolist() == [5, 2, 1]


def test_limit_larger_than_the_data_changes_nothing(npz):
    assert load_images(npz, limit=1000).fingerprint == load_images(npz).fingerprint


def test_limit_keeps_the_classes(npz):
    assert load_images(npz, limit=1).num_classes == 3


@pytest.mark.parametrize("limit", [0, -1, 2.0, True, "5"], ids=repr)
def test_bad_limits_are_refused(limit):
    with pytest.raises(ValueError, match=rf"^limit must be a positive integer or None; got {limit!r}\."):
        load_images("digits", limit=limit)


@pytest.mark.parametrize("size", [8, (8, 8)], ids=["side", "pair"])
def test_resizes_to_a_square(npz, size):
    assert load_images(npz, image_size=size).image_shape == (8, 8, 3)


def test_resizes_bytes_as_pillow_does(npz):
    whole, resized = load_images(npz), load_images(npz, image_size=(3, 9))
    wanted = np.stack(
        [np.asarray(Image.fromarray(image).resize((9, 3), Image.Resampling.BILINEAR)) for image in whole.x_test]
    )
    np.testing.assert_array_equal(resized.x_test, wanted)


def test_resized_floats_stay_floats_from_0_to_1(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["x_train"] = np.zeros((12, 1, 2, 3))
    arrays["x_train"][:, :, 1] = 1
    arrays["x_test"] = arrays["x_train"][:6]
    data = load_images(write_npz(tmp_path, **arrays), image_size=(1, 4))
    assert data.x_train.dtype == np.float32
    np.testing.assert_allclose(data.x_train[0, 0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)


def test_the_own_size_changes_nothing(npz):
    assert load_images(npz, image_size=(5, 4)).fingerprint == load_images(npz).fingerprint


@pytest.mark.parametrize("size", [0, 2.5, (8,), (8, -1), "8", True], ids=repr)
def test_bad_sizes_are_refused(size):
    message = f"image_size must be a positive integer or (height, width) of them; got {size!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        load_images("digits", image_size=size)


def test_grey_is_repeated_for_three_channels():
    grey, colour = load_images("digits", limit=20), load_images("digits", limit=20, channels=3)
    np.testing.assert_array_equal(colour.x_train, np.repeat(grey.x_train, 3, -1))


def test_colour_becomes_luma_for_one_channel(npz):
    colour, grey = load_images(npz), load_images(npz, channels=1)
    luma = colour.x_train.astype("float64") @ [0.299, 0.587, 0.114]
    assert grey.x_train.dtype == np.uint8
    np.testing.assert_allclose(grey.x_train[..., 0], luma, atol=0.501)


def test_float_colour_becomes_float_luma(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["x_train"], arrays["x_test"] = arrays["x_train"] / 255, arrays["x_test"] / 255
    grey = load_images(write_npz(tmp_path, **arrays), channels=1)
    np.testing.assert_allclose(grey.x_train[..., 0], arrays["x_train"] @ [0.299, 0.587, 0.114], atol=1e-6)


def test_white_stays_within_the_range_as_float_luma(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["x_train"], arrays["x_test"] = np.ones((12, 5, 4, 3)), np.ones((6, 5, 4, 3))
    grey = load_images(write_npz(tmp_path, **arrays), channels=1)
    np.testing.assert_allclose(grey.x_train, 1)


@pytest.mark.parametrize("channels", [0, 2, 4, True, "3", 3.0], ids=repr)
def test_bad_channels_are_refused(channels):
    with pytest.raises(ValueError, match=rf"^channels must be 1 \(grey\), 3 \(RGB\) or None .*; got {channels!r}\."):
        load_images("digits", channels=channels)


def test_channels_that_cannot_be_converted_are_refused(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["x_train"], arrays["x_test"] = np.zeros((12, 5, 4, 2), "uint8"), np.zeros((6, 5, 4, 2), "uint8")
    path = write_npz(tmp_path, **arrays)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: cannot turn 2 channels into 3; only 1 to 3"):
        load_images(path, channels=3)


@pytest.mark.parametrize(
    "kwargs", [{"limit": 0}, {"channels": 2}, {"image_size": 0}], ids=lambda kwargs: next(iter(kwargs))
)
def test_bad_arguments_are_refused_before_the_source_is_looked_for(kwargs):
    with pytest.raises(ValueError, match=f"^{next(iter(kwargs))} must be"):
        load_images("nowhere", **kwargs)


def test_resizing_without_pillow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"Resizing images needs Pillow\. .* pip install pillow"):
        load_images("digits", image_size=16)


def test_an_error_that_is_not_of_the_network_is_not_called_offline(monkeypatch):
    def load_data():
        raise PermissionError("cache not writable")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(PermissionError, match="cache not writable"):
        load_images("mnist")


def test_photos_for_testing_share_no_pixel_with_those_for_training():
    data = load_images("photos")
    assert data.class_names == ("china", "flower")
    assert data.x_train.shape == (400, 96, 96, 3)
    assert data.x_test.shape == (100, 96, 96, 3)
    assert np.bincount(data.y_train).tolist() == [200, 200]
    assert data.fingerprint == load_images("photos").fingerprint

    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    for crops, labels, begin, end in (
        (data.x_train, data.y_train, 0, 416),
        (data.x_test, data.y_test, 448, 640),
    ):
        for crop, label in list(zip(crops, labels, strict=True))[::40]:
            rows = np.lib.stride_tricks.sliding_window_view(photos[label], (96, 3), axis=(1, 2))[..., 0, :, :]
            places = np.argwhere((rows[:-95] == crop[0]).all(axis=(2, 3)))
            lefts = {left for top, left in places if (photos[label][top : top + 96, left : left + 96] == crop).all()}
            assert lefts
            assert all(begin <= left <= end - 96 for left in lefts)


def test_a_known_name_is_the_data_set_also_where_a_folder_has_it(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not names_class_folders("digits")
    assert names_class_folders("./digits")
    assert names_class_folders(tmp_path / "digits")
    assert not names_class_folders("nowhere")
    (tmp_path / "digits" / "train-images-idx3-ubyte").touch()
    assert not names_class_folders("./digits")
