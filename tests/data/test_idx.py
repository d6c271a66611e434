import gzip
import math
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasblocks.data import load_images
from kerasblocks.data._idx import read_idx

pytestmark = pytest.mark.once

FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
SHAPES = st.lists(st.integers(0, 6), min_size=1, max_size=4)


def idx_bytes(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(path, content):
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def arrays():
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (6, 5, 4), "uint8"),
        "y_train": np.array([0, 1, 2, 0, 1, 2], "uint8"),
        "x_test": rng.integers(0, 256, (3, 5, 4), "uint8"),
        "y_test": np.array([2, 1, 0], "uint8"),
    }


def write_folder(folder, ending="", separator="-", **changes):
    for name, array in {**arrays(), **changes}.items():
        stem = FILES[name].replace("-idx", f"{separator}idx")
        write(folder / f"{stem}{ending}", idx_bytes(array))
    return folder


def refused(path, message):
    return pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {message}")


@pytest.mark.parametrize("separator", ["-", "."], ids=["dash", "dot"])
@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
def test_a_folder_is_read_whole(tmp_path, ending, separator):
    data = load_images(write_folder(tmp_path, ending, separator))
    wanted = arrays()
    np.testing.assert_array_equal(data.x_train, wanted["x_train"][..., None])
    np.testing.assert_array_equal(data.y_train, wanted["y_train"])
    np.testing.assert_array_equal(data.x_test, wanted["x_test"][..., None])
    np.testing.assert_array_equal(data.y_test, wanted["y_test"])
    assert (data.class_names, data.source) == (("0", "1", "2"), str(tmp_path))


def test_raw_and_gzipped_files_may_be_mixed(tmp_path):
    write_folder(tmp_path)
    write(tmp_path / f"{FILES['x_test']}.gz", (tmp_path / FILES["x_test"]).read_bytes())
    (tmp_path / FILES["x_test"]).unlink()
    np.testing.assert_array_equal(load_images(tmp_path).x_test[..., 0], arrays()["x_test"])


def test_raw_and_gzipped_files_have_the_same_fingerprint(tmp_path):
    for name in ("raw", "packed"):
        (tmp_path / name).mkdir()
    raw, packed = write_folder(tmp_path / "raw"), write_folder(tmp_path / "packed", ".gz")
    assert load_images(raw).fingerprint == load_images(packed).fingerprint


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    (write_folder(tmp_path) / FILES[name]).unlink()
    message = f"{tmp_path}: a folder of IDX files must have {FILES[name]} or {FILES[name]}.gz; neither is there."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}"):
        load_images(tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_any_array_of_bytes_comes_back(tmp_path_factory, ending, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, "uint8")
    path = write(tmp_path_factory.mktemp("idx") / f"file{ending}", idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path, rank=len(shape)), array)


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(shape=SHAPES, data=st.data())
def test_any_truncation_is_refused(tmp_path_factory, ending, shape, data):
    array = np.random.default_rng(math.prod(shape)).integers(0, 256, shape, "uint8")
    path = write(tmp_path_factory.mktemp("idx") / f"file{ending}", idx_bytes(array))
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with refused(path, ""):
        read_idx(path, rank=len(shape))


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_damaged_byte_is_refused_or_shows_in_the_pixels_only(tmp_path_factory, ending, data):
    array = np.random.default_rng(0).integers(0, 256, (4, 3, 2), "uint8")
    path = write(tmp_path_factory.mktemp("idx") / f"file{ending}", idx_bytes(array))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        assert read_idx(path, rank=3).shape == (4, 3, 2)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (0, "an IDX file of 3-dimensional bytes must begin with 00000803; found nothing"),
        (2, "an IDX file of 3-dimensional bytes must begin with 00000803; found 0000"),
        (9, "truncated: the header ends after 9 of 16 bytes"),
        (30, r"truncated: the header announces 120 bytes of data \(6, 5, 4\), more than a file of 30 bytes can hold"),
        (135, r"truncated: the header announces 120 bytes of data \(6, 5, 4\); found only 119"),
    ],
    ids=["empty", "magic", "header", "most_data", "last_byte"],
)
def test_a_truncated_file_is_told_what_is_missing(tmp_path, length, message):
    path = write_folder(tmp_path) / FILES["x_train"]
    path.write_bytes(path.read_bytes()[:length])
    with refused(path, rf"{message}\."):
        load_images(tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
def test_data_behind_the_announced_end_are_refused(tmp_path, ending):
    path = write(write_folder(tmp_path, ending) / f"{FILES['x_train']}{ending}", idx_bytes(arrays()["x_train"]) + b"!")
    with refused(path, r"over-long: the header announces 120 bytes of data \(6, 5, 4\); found more\."):
        load_images(tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path, ending):
    header = struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**15, 2**15)
    path = write(write_folder(tmp_path, ending) / f"{FILES['x_train']}{ending}", header + b"0" * 100)
    with refused(path, rf"truncated: the header announces {2**61} bytes .* more than a file of \d+ bytes can hold\."):
        load_images(tmp_path)


def test_well_compressed_data_are_not_taken_for_a_lie(tmp_path):
    zeros = np.zeros((1000, 30, 30), "uint8")
    labels = np.arange(1000) % 3
    write_folder(tmp_path, ".gz", x_train=zeros, y_train=labels.astype("uint8"), x_test=zeros[:3])
    assert load_images(tmp_path).x_train.shape == (1000, 30, 30, 1)


@pytest.mark.parametrize(
    ("magic", "found"),
    [(b"\0\0\x0d\x03", "00000d03"), (b"\0\0\x08\x01", "00000801"), (b"\x89PNG", "89504e47")],
    ids=["floats", "labels", "png"],
)
def test_another_kind_of_file_is_refused(tmp_path, magic, found):
    path = write_folder(tmp_path) / FILES["x_train"]
    path.write_bytes(magic + path.read_bytes()[4:])
    with refused(path, rf"an IDX file of 3-dimensional bytes must begin with 00000803; found {found}\."):
        load_images(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: content[:-8] + bytes(8), lambda content: b"IDX" + content],
    ids=["cut", "checksum", "no_gzip"],
)
def test_a_damaged_gzip_stream_is_refused(tmp_path, damage):
    path = write_folder(tmp_path, ".gz") / f"{FILES['x_train']}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with refused(path, r"the gzip stream is truncated or damaged \("):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_train": np.zeros(5, "uint8")},
            "y_train must have one label an image; got 5 labels for 6 images",
        ),
        (
            {"x_test": np.zeros((0, 5, 4), "uint8"), "y_test": np.zeros(0, "uint8")},
            "x_test must hold at least one image; got none",
        ),
        (
            {"y_test": np.array([0, 1, 7], "uint8")},
            r"every test label must occur in training; \[7\] do not",
        ),
        (
            {"y_train": np.array([0, 1, 2, 0, 1, 255], "uint8")},
            "training labels must be numbered 0, 1, 2, ... without large gaps; got 4 different labels, the largest 255",
        ),
        (
            {"x_test": np.zeros((3, 4, 5), "uint8")},
            r"training and test images must agree in shape and dtype; got \(5, 4, 1\) uint8 and \(4, 5, 1\) uint8",
        ),
    ],
    ids=["label_count", "no_test_images", "unseen_label", "gap", "sizes_differ"],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, changes, message):
    with refused(write_folder(tmp_path, **changes), rf"{message}\."):
        load_images(tmp_path)


@pytest.mark.parametrize("image_size", [None, 8], ids=["as_is", "resized"])
def test_images_without_height_are_refused(tmp_path, image_size):
    write_folder(tmp_path, x_train=np.zeros((6, 0, 4), "uint8"), x_test=np.zeros((3, 0, 4), "uint8"))
    with refused(tmp_path, r"x_train must have shape \(images, height, width, channels\); got \(6, 0, 4, 1\)\."):
        load_images(tmp_path, image_size=image_size)
