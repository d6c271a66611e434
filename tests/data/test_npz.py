import io
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasblocks.data import load_images

pytestmark = pytest.mark.once


def arrays(**changes):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (6, 5, 4), "uint8"),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.integers(0, 256, (3, 5, 4), "uint8"),
        "y_test": np.array([2, 1, 0]),
        **changes,
    }


def write(path, save=np.savez, **changes):
    save(path, **arrays(**changes))
    return path


def replace_member(path, name, content):
    """Puts `content` in the place of one member of the archive."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, old in members.items():
            archive.writestr(member, content if member == name else old)


def header(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def refused(path, message):
    return pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {message}")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
def test_a_file_is_read_whole(tmp_path, save):
    path = write(tmp_path / "a.npz", save)
    data, wanted = load_images(path), arrays()
    np.testing.assert_array_equal(data.x_train, wanted["x_train"][..., None])
    np.testing.assert_array_equal(data.y_train, wanted["y_train"])
    np.testing.assert_array_equal(data.x_test, wanted["x_test"][..., None])
    np.testing.assert_array_equal(data.y_test, wanted["y_test"])
    assert (data.class_names, data.source) == (("0", "1", "2"), str(path))


def test_class_names_are_taken(tmp_path):
    path = write(tmp_path / "a.npz", class_names=np.array(["cat", "dog", "cow", "never"]))
    assert load_images(path).class_names == ("cat", "dog", "cow", "never")


def test_other_arrays_are_passed_over(tmp_path):
    with_extra = write(tmp_path / "a.npz", x_valid=np.array([object()]))
    assert load_images(with_extra).fingerprint == load_images(write(tmp_path / "b.npz")).fingerprint


@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=lambda channels: f"channels={channels}")
def test_any_number_of_channels_is_kept(tmp_path, channels):
    x = np.random.default_rng(0).integers(0, 256, (6, 5, 4, channels), "uint8")
    data = load_images(write(tmp_path / "a.npz", x_train=x, x_test=x[:3]))
    np.testing.assert_array_equal(data.x_train, x)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int64", "float32", "float64", ">i4"])
def test_whole_numbers_up_to_255_become_bytes(tmp_path, dtype):
    wanted = arrays()
    path = write(tmp_path / "a.npz", x_train=wanted["x_train"].astype(dtype), x_test=wanted["x_test"].astype(dtype))
    data = load_images(path)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    np.testing.assert_array_equal(data.x_train[..., 0], wanted["x_train"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_fractions_become_float32(tmp_path, dtype):
    x = np.random.default_rng(0).random((6, 5, 4)).astype(dtype)
    data = load_images(write(tmp_path / "a.npz", x_train=x, x_test=x[:3]))
    assert data.x_train.dtype == np.float32
    np.testing.assert_array_equal(data.x_train[..., 0], x.astype("float32"))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64", ">i4"])
def test_labels_become_int64(tmp_path, dtype):
    y = arrays()["y_train"].astype(dtype)
    data = load_images(write(tmp_path / "a.npz", y_train=y))
    assert data.y_train.dtype == np.int64
    np.testing.assert_array_equal(data.y_train, y)


def test_a_column_of_labels_is_flattened(tmp_path):
    data = load_images(write(tmp_path / "a.npz", y_train=arrays()["y_train"][:, None]))
    np.testing.assert_array_equal(data.y_train, arrays()["y_train"])


def test_up_to_ten_classes_may_have_gaps(tmp_path):
    path = write(tmp_path / "a.npz", y_train=np.array([0, 9, 9, 0, 4, 4]), y_test=np.array([9, 4, 0]))
    assert load_images(path).class_names == tuple("0123456789")


@pytest.mark.parametrize("missing", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_array_is_named(tmp_path, missing):
    path = tmp_path / "a.npz"
    np.savez(path, other=np.zeros(1), **{name: array for name, array in arrays().items() if name != missing})
    with refused(path, rf"must hold the arrays x_train, y_train, x_test, y_test; missing {missing}, found other, "):
        load_images(path)


def test_an_archive_without_arrays_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path)
    with refused(path, r".*missing x_train, y_train, x_test, y_test, found none\."):
        load_images(path)


@pytest.mark.parametrize("name", ["x_train", "y_test", "class_names"])
def test_pickled_objects_are_refused(tmp_path, name):
    path = write(tmp_path / "a.npz", **{name: np.array([1, "a", None], dtype=object)})
    with refused(
        path, rf"array {name} cannot be read \(it is an array of Python objects \(pickled\), which are refused"
    ):
        load_images(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros(6)}, r"x_train must have rank 3 \(grey images\) or 4; got shape \(6,\)"),
        ({"x_test": np.zeros((3, 5, 4), bool)}, r"x_test must hold numbers .*; got bool"),
        ({"x_train": np.zeros((6, 5, 4), complex)}, r"x_train must hold numbers .*; got complex128"),
        ({"x_train": np.full((6, 5, 4), 256)}, r"x_train must hold pixels .*; got int64 from 256 to 256"),
        ({"x_train": np.full((6, 5, 4), -1)}, r"x_train must hold pixels .*; got int64 from -1 to -1"),
        ({"x_train": np.full((6, 5, 4), 1.5)}, r"x_train must hold pixels .*; got float64 from 1\.5 to 1\.5"),
        ({"x_train": np.full((6, 5, 4), -0.5)}, r"x_train must hold pixels .*; got float64 from -0\.5 to -0\.5"),
        ({"x_train": np.full((6, 5, 4), 300.0)}, r"x_train must hold pixels .*; got float64 from 300 to 300"),
        ({"x_train": np.full((6, 5, 4), np.nan)}, r"x_train must be finite; image 0 has NaN or infinite pixels"),
        ({"x_test": np.full((3, 5, 4), np.inf)}, r"x_test must be finite; image 0 has NaN or infinite pixels"),
        ({"x_train": np.zeros((0, 5, 4)), "y_train": np.zeros(0, int)}, r"x_train must hold at least one image"),
        ({"x_test": np.zeros((3, 4, 5), "uint8")}, r"training and test images must agree in shape and dtype"),
        ({"y_train": np.zeros(6)}, r"y_train must hold integers; got float64"),
        ({"y_train": np.zeros((6, 3), int)}, r"y_train must be a vector of labels, one an image; got shape \(6, 3\)"),
        ({"y_train": np.array(1)}, r"y_train must be a vector of labels, one an image; got shape \(\)"),
        ({"y_test": np.zeros(4, int)}, r"y_test must have one label an image; got 4 labels for 3 images"),
        ({"y_train": np.array([0, 1, 2, 0, 1, -1])}, r"y_train must not be negative; got -1 at position 5"),
        ({"y_test": np.array([0, 1, 3])}, r"every test label must occur in training; \[3\] do not"),
        ({"y_train": np.array([0, 1, 2, 0, 1, 99])}, r"training labels must be numbered .* the largest 99"),
        ({"class_names": np.array(["a", "b"])}, r"y_train must lie in 0\.\.1 \(2 classes\); got 2 at position 2"),
        ({"class_names": np.array([1, 2, 3])}, r"class_names must be a vector of strings; got int64 \(3,\)"),
        ({"class_names": np.array([b"a", b"b"])}, r"class_names must be a vector of strings; got \|S1 \(2,\)"),
        ({"class_names": np.array("abc")}, r"class_names must be a vector of strings; got <U3 \(\)"),
        ({"class_names": np.array([], "U1")}, r".*class.?name.*; got"),
    ],
    ids=[
        "rank",
        "bool_pixels",
        "complex_pixels",
        "integer_above",
        "integer_below",
        "float_above",
        "float_below",
        "whole_float_above",
        "nan",
        "infinite",
        "empty_split",
        "sizes_differ",
        "float_labels",
        "label_matrix",
        "label_scalar",
        "label_count",
        "negative_label",
        "unseen_label",
        "gap",
        "too_few_names",
        "number_names",
        "byte_names",
        "scalar_name",
        "no_names",
    ],
)
def test_bad_arrays_are_refused_with_the_path_and_the_rule(tmp_path, changes, message):
    path = write(tmp_path / "a.npz", **changes)
    with refused(path, message):
        load_images(path)


@pytest.mark.parametrize("image_size", [None, 8], ids=["as_is", "resized"])
def test_images_without_width_are_refused(tmp_path, image_size):
    path = write(tmp_path / "a.npz", x_train=np.zeros((6, 5, 0), "uint8"), x_test=np.zeros((3, 5, 0), "uint8"))
    with refused(path, r"x_train must have shape \(images, height, width, channels\); got \(6, 5, 0, 1\)\."):
        load_images(path, image_size=image_size)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["plain", "compressed"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_truncation_is_refused(tmp_path_factory, save, data):
    path = write(tmp_path_factory.mktemp("npz") / "a.npz", save)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with refused(path, "not a whole .npz file"):
        load_images(path)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_damaged_byte_is_harmless_or_refused(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("npz") / "a.npz", np.savez_compressed)
    whole = load_images(path).fingerprint
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        assert load_images(path).fingerprint == whole
    except ValueError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("x_train, y_train")
    with refused(path, r"not a whole \.npz file"):
        load_images(path)


def test_a_single_array_under_the_name_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with refused(path, r"not a whole \.npz file"):
        load_images(path)


def test_an_unknown_compression_is_refused(tmp_path):
    path = write(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 10] = 77
    path.write_bytes(bytes(content))
    with refused(path, r".*(compression|\.npz file)"):
        load_images(path)


def test_a_member_that_is_no_array_is_refused(tmp_path):
    path = write(tmp_path / "a.npz")
    replace_member(path, "x_train.npy", b"not an array")
    with refused(path, "array x_train cannot be read"):
        load_images(path)


def test_well_compressed_data_are_not_taken_for_a_lie(tmp_path):
    zeros = np.zeros((6, 500, 500), "uint8")
    path = write(tmp_path / "a.npz", np.savez_compressed, x_train=zeros, x_test=zeros[:3])
    assert load_images(path).image_shape == (500, 500, 1)


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path):
    path = write(tmp_path / "a.npz")
    replace_member(path, "x_train.npy", header((10**14, 5, 4)) + bytes(100))
    with refused(path, ".*x_train"):
        load_images(path)


def test_bytes_after_an_array_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"x_train": np.zeros((2, 4, 4), "uint8"), "y_train": np.array([0, 1])}
    arrays |= {"x_test": arrays["x_train"], "y_test": arrays["y_train"]}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array)
            archive.writestr(f"{name}.npy", content.getvalue() + (b"more" if name == "y_test" else b""))
    with pytest.raises(ValueError, match=r"a\.npz: array y_test cannot be read \(more bytes follow"):
        load_images(path)
