import re

import numpy as np
import pytest
from PIL import Image

from kerasblocks.data import load_images

pytestmark = pytest.mark.once

NAMES = ("cat", "cow", "dog")


def image(value, size=(5, 4), mode="RGB"):
    height, width = size
    return Image.new(mode, (width, height), value if mode == "L" else (value, 2 * value, 255 - value))


def write_classes(root, counts, first=0, **kwargs):
    """Folders named in `counts` with as many images, numbered through in the order of the names and the files."""
    value = first
    for name in sorted(counts):
        (root / name).mkdir(parents=True)
        for index in range(counts[name]):
            image(value, **kwargs).save(root / name / f"{index:02}.png")
            value += 1
    return root


def reds(x):
    assert (x[..., :1] == x[:, :1, :1, :1]).all()
    return x[:, 0, 0, 0].tolist()


def refused(path, message):
    return pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {message}")


def test_sorted_folder_names_give_the_labels(tmp_path):
    write_classes(tmp_path / "train", {"dog": 1, "cat": 2, "cow": 3})
    write_classes(tmp_path / "test", {"dog": 1, "cat": 1, "cow": 2}, first=50)
    data = load_images(tmp_path)
    assert data.class_names == NAMES
    assert (reds(data.x_train), data.y_train.tolist()) == ([0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 2])
    assert (reds(data.x_test), data.y_test.tolist()) == ([50, 51, 52, 53], [0, 1, 1, 2])
    assert data.source == str(tmp_path)


def test_pixels_come_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), "uint8")
    for split in ("train", "test"):
        write_classes(tmp_path / split, {"a": 1})
        Image.fromarray(pixels).save(tmp_path / split / "a" / "00.png")
    np.testing.assert_array_equal(load_images(tmp_path).x_train[0], pixels)


def test_a_fifth_of_every_class_is_held_out(tmp_path):
    data = load_images(write_classes(tmp_path, {"cat": 20, "cow": 5, "dog": 2}))
    assert np.bincount(data.y_test).tolist() == [4, 1, 1]
    assert sorted(reds(data.x_train) + reds(data.x_test)) == list(range(27))
    label_of = [0] * 20 + [1] * 5 + [2] * 2
    assert [label_of[red] for red in reds(data.x_train)] == data.y_train.tolist()
    assert [label_of[red] for red in reds(data.x_test)] == data.y_test.tolist()


def test_the_held_out_images_are_always_the_same(tmp_path):
    folders = [write_classes(tmp_path / name, {"cat": 10, "cow": 5}) for name in ("here", "there")]
    assert load_images(folders[0]).fingerprint == load_images(folders[1]).fingerprint


def test_hidden_names_are_passed_over(tmp_path):
    write_classes(tmp_path, {"cat": 2, "cow": 2, ".git": 1})
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "cat" / ".thumbnail").write_text("x")
    data = load_images(tmp_path)
    assert data.class_names == ("cat", "cow")
    assert len(data.x_train) + len(data.x_test) == 4


def test_classes_may_be_called_train_among_others(tmp_path):
    assert load_images(write_classes(tmp_path, {"bus": 2, "train": 2})).class_names == ("bus", "train")


@pytest.mark.parametrize(
    ("mode", "channels", "shape"),
    [("L", None, (5, 4, 1)), ("RGB", None, (5, 4, 3)), ("L", 3, (5, 4, 3)), ("RGB", 1, (5, 4, 1))],
    ids=["grey", "colour", "grey_to_colour", "colour_to_grey"],
)
def test_channels_are_those_of_the_files_or_as_asked(tmp_path, mode, channels, shape):
    data = load_images(write_classes(tmp_path, {"a": 2, "b": 2}, mode=mode), channels=channels)
    assert data.image_shape == shape


def test_one_colour_image_makes_all_images_colour(tmp_path):
    write_classes(tmp_path, {"a": 2, "b": 6}, mode="L")
    image(100).save(tmp_path / "b" / "05.png")
    assert load_images(tmp_path, limit=1).image_shape == (5, 4, 3)


def test_limit_takes_from_the_classes_in_turn(tmp_path):
    write_classes(tmp_path / "train", {"cat": 4, "cow": 1, "dog": 3})
    write_classes(tmp_path / "test", {"cat": 2, "cow": 2, "dog": 2})
    data = load_images(tmp_path, limit=5)
    assert (reds(data.x_train), data.y_train.tolist()) == ([0, 1, 4, 5, 6], [0, 0, 1, 2, 2])
    assert data.y_test.tolist() == [0, 0, 1, 1, 2]


def test_limit_keeps_the_class_names(tmp_path):
    data = load_images(write_classes(tmp_path, {"cat": 5, "cow": 5, "dog": 5}), limit=1)
    assert (data.class_names, len(data.x_train), len(data.x_test)) == (NAMES, 1, 1)


def test_images_beyond_the_limit_are_not_decoded(tmp_path):
    write_classes(tmp_path / "train", {"a": 3})
    write_classes(tmp_path / "test", {"a": 1})
    last = tmp_path / "train" / "a" / "02.png"
    last.write_bytes(last.read_bytes()[:50])
    assert reds(load_images(tmp_path, limit=2).x_train) == [0, 1]


def test_sizes_may_differ_when_one_is_asked_for(tmp_path):
    write_classes(tmp_path, {"a": 3})
    image(9, (8, 9)).save(tmp_path / "a" / "01.png")
    assert load_images(tmp_path, image_size=(6, 7)).image_shape == (6, 7, 3)


def test_sizes_that_differ_are_refused(tmp_path):
    write_classes(tmp_path / "train", {"a": 3})
    write_classes(tmp_path / "test", {"a": 1})
    odd = tmp_path / "train" / "a" / "02.png"
    image(9, (8, 9)).save(odd)
    with refused(odd, r"all images must have one size unless image_size is given; .*\(8, 9\), .*00\.png is \(5, 4\)\."):
        load_images(tmp_path)


def test_test_images_of_another_size_are_refused(tmp_path):
    write_classes(tmp_path / "train", {"a": 2})
    write_classes(tmp_path / "test", {"a": 2}, size=(8, 9))
    with refused(tmp_path, r"training and test images must agree in shape and dtype; got \(5, 4, 3\) uint8 and \(8, 9"):
        load_images(tmp_path)


def test_classes_that_differ_between_the_splits_are_refused(tmp_path):
    write_classes(tmp_path / "train", {"a": 1, "b": 1})
    write_classes(tmp_path / "test", {"a": 1, "c": 1})
    with refused(tmp_path, r"train/ and test/ must have the same class folders; they differ in \['b', 'c'\]\."):
        load_images(tmp_path)


@pytest.mark.parametrize("others", [["train"], ["test"], ["train", "test", "val"]], ids="+".join)
def test_other_splits_are_refused(tmp_path, others):
    for name in others:
        write_classes(tmp_path / name, {"a": 1, "b": 1})
    message = (
        f"must hold train/ and test/ (or val/) and no other folder, or class folders only; found {sorted(others)}."
    )
    with refused(tmp_path, re.escape(message)):
        load_images(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    write_classes(tmp_path, {"cat": 3, "cow": 1})
    with refused(tmp_path / "cow", r"a class needs at least 2 images to be split .*; found 1\. Add images, or make"):
        load_images(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with refused(tmp_path, r"must hold one folder a class; found none\."):
        load_images(tmp_path)


def test_an_empty_class_is_refused(tmp_path):
    write_classes(tmp_path, {"cat": 2, "cow": 0})
    with refused(tmp_path / "cow", r"a class folder must hold at least one image; it is empty\."):
        load_images(tmp_path)


@pytest.mark.parametrize("split", [False, True], ids=["classes", "train_and_test"])
def test_a_file_among_the_folders_is_refused(tmp_path, split):
    for part in ("train", "test") if split else (".",):
        write_classes(tmp_path / part, {"cat": 2, "cow": 2})
    (tmp_path / "notes.txt").write_text("x")
    with refused(tmp_path, r"must hold .*; found the file notes\.txt\."):
        load_images(tmp_path)


def test_a_folder_among_the_images_is_refused(tmp_path):
    write_classes(tmp_path, {"cat": 2})
    (tmp_path / "cat" / "more").mkdir()
    with refused(tmp_path / "cat", r"a class folder must hold image files only; found the folder more\."):
        load_images(tmp_path)


@pytest.mark.parametrize("limit", [None, 1], ids=["all", "limited"])
def test_a_file_that_is_no_image_is_refused_even_if_it_is_not_kept(tmp_path, limit):
    write_classes(tmp_path / "train", {"a": 3})
    write_classes(tmp_path / "test", {"a": 1})
    bad = tmp_path / "train" / "a" / "zz.png"
    bad.write_text("no image")
    with refused(bad, r"not a whole image file \("):
        load_images(tmp_path, limit=limit)


def test_a_truncated_image_is_refused(tmp_path):
    write_classes(tmp_path, {"a": 2})
    bad = tmp_path / "a" / "00.png"
    bad.write_bytes(bad.read_bytes()[:50])
    with refused(bad, r"not a whole image file \("):
        load_images(tmp_path)
