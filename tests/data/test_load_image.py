import re
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kerasblocks.data import colour_components, load_image

pytestmark = pytest.mark.once

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), "uint8")
GREY = PIXELS[..., 0]


def saved(path, image, **kwargs):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **kwargs)
    return path


def png(mode, depth, pixels):
    """A PNG written by hand, for Pillow saves no colours of 16 bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}[mode], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_lossless_pixels_come_back(tmp_path, ending):
    image = load_image(saved(tmp_path / f"a.{ending}", PIXELS))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PIXELS)


def test_a_path_may_be_a_string(tmp_path):
    assert load_image(str(saved(tmp_path / "a.png", PIXELS))).shape == (5, 7, 3)


def test_a_grey_image_has_one_channel(tmp_path):
    np.testing.assert_array_equal(load_image(saved(tmp_path / "a.png", GREY)), GREY[..., None])


def test_black_and_white_becomes_0_and_255(tmp_path):
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(GREY > 127)))
    np.testing.assert_array_equal(image[..., 0], np.where(GREY > 127, 255, 0))


def test_a_palette_is_resolved_to_colours(tmp_path):
    palette = Image.fromarray(GREY % 4).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])
    index = np.asarray(palette)
    np.testing.assert_array_equal(load_image(saved(tmp_path / "a.png", palette)), colours[index])


def test_grey_is_repeated_for_three_channels(tmp_path):
    image = load_image(saved(tmp_path / "a.png", GREY), channels=3)
    np.testing.assert_array_equal(image, np.stack([GREY] * 3, -1))


def test_colour_becomes_luma_for_one_channel(tmp_path):
    image = load_image(saved(tmp_path / "a.png", PIXELS), channels=1)
    luma = PIXELS.astype("float64") @ [0.299, 0.587, 0.114]
    assert image.shape == (5, 7, 1)
    np.testing.assert_allclose(image[..., 0], luma, atol=0.51)


@pytest.mark.parametrize("size", [8, (8, 8)], ids=["side", "pair"])
def test_resizes_to_a_square(tmp_path, size):
    assert load_image(saved(tmp_path / "a.png", PIXELS), image_size=size).shape == (8, 8, 3)


def test_resizes_bilinearly_to_height_and_width(tmp_path):
    image = load_image(saved(tmp_path / "a.png", PIXELS), image_size=(3, 11))
    wanted = np.asarray(Image.fromarray(PIXELS).resize((11, 3), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(image, wanted)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: np.rot90(x, -1)),
        (8, np.rot90),
    ],
    ids=["as_is", "mirrored", "upside_down", "clockwise", "counterclockwise"],
)
def test_the_camera_orientation_is_applied(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(saved(tmp_path / "a.png", PIXELS, exif=exif))
    np.testing.assert_array_equal(image, upright(PIXELS))


def test_transparent_pixels_lie_on_black(tmp_path):
    alpha = np.zeros((5, 7, 1), "uint8")
    alpha[2:] = 255
    image = load_image(saved(tmp_path / "a.png", np.concatenate([PIXELS, alpha], -1)))
    np.testing.assert_array_equal(image, np.where(alpha > 0, PIXELS, 0))


def test_transparent_grey_lies_on_black_and_stays_grey(tmp_path):
    alpha = np.full((5, 7), 255, "uint8")
    alpha[0] = 0
    merged = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    image = load_image(saved(tmp_path / "a.png", merged))
    np.testing.assert_array_equal(image[..., 0], np.where(alpha > 0, GREY, 0))


def test_a_transparent_colour_lies_on_black(tmp_path):
    pixels = np.full((2, 2, 3), 200, "uint8")
    pixels[0, 0] = (9, 8, 7)
    image = load_image(saved(tmp_path / "a.png", pixels, transparency=(200, 200, 200)))
    assert image.sum((0, 1)).tolist() == [9, 8, 7]


@pytest.mark.parametrize("name", ["none.png", "."], ids=["missing", "folder"])
def test_a_missing_file_is_named(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=rf"^{re.escape(str(path))}: no such image file\."):
        load_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "signature"])
def test_what_is_no_image_is_refused(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: not a whole image file \("):
        load_image(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_truncated_image_raises_or_has_every_pixel(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("images") / f"a.{ending}"
    saved(path, PIXELS)
    content, whole = path.read_bytes(), load_image(path)
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        image = load_image(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: not a whole image file")  # noqa: PT017
    else:
        np.testing.assert_array_equal(image, whole)


def test_several_frames_are_refused(tmp_path):
    frames = [Image.fromarray(GREY + shift) for shift in range(3)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"a\.gif: an image file must hold one picture; it holds 3 frames\."):
        load_image(path)


def test_a_gif_of_one_frame_is_taken(tmp_path):
    assert load_image(saved(tmp_path / "a.gif", GREY), channels=1).shape == (5, 7, 1)


@pytest.mark.parametrize(
    ("pixels", "mode"), [(GREY.astype("uint16"), "I;16"), (GREY.astype("float32"), "F")], ids=["uint16", "float"]
)
def test_deep_grey_is_refused(tmp_path, pixels, mode):
    path = saved(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=rf"a\.tif: images must have 8 bits a channel; .* mode '{mode}'\."):
        load_image(path)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("LA", 2), ("RGBA", 4)], ids=["RGB", "LA", "RGBA"])
def test_deep_colour_is_refused(tmp_path, mode, channels):
    path = tmp_path / "deep.png"
    path.write_bytes(png(mode, 16, np.full((2, 2, channels), 0x12FF, ">u2")))
    with pytest.raises(ValueError, match=r"deep\.png: images must have 8 bits a channel;"):
        load_image(path)


@pytest.mark.parametrize("factor", [1.5, 3], ids=["warning", "error"])
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, factor):
    path = saved(tmp_path / "a.png", GREY)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(GREY.size / factor))
    with pytest.raises(ValueError, match=r"a\.png: refused, it may be a decompression bomb.*(35|7 x 5|5 x 7) pixels"):
        load_image(path)


def test_a_limit_of_pixels(tmp_path):
    path = saved(tmp_path / "a.png", GREY)
    assert load_image(path, max_pixels=GREY.size).shape[:2] == GREY.shape[:2]
    with pytest.raises(ValueError, match=rf"a\.png: refused, .* pixels, more than {GREY.size - 1}\."):
        load_image(path, max_pixels=GREY.size - 1)


@pytest.mark.parametrize("most", [0, -1, "5", True, float("nan")], ids=str)
def test_a_limit_that_is_none_is_refused(most, tmp_path):
    path = saved(tmp_path / "a.png", GREY)
    for call in (lambda: load_image(path, max_pixels=most), lambda: colour_components([path], max_pixels=most)):
        with pytest.raises(ValueError, match="max_pixels must be an integer of at least 1"):
            call()


def test_lab_colours_become_luma_as_their_rgb_does(tmp_path):
    path = saved(tmp_path / "lab.tif", Image.new("LAB", (4, 4), (150, 140, 90)))
    luma = load_image(path, channels=3).astype("float64") @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(load_image(path, channels=1)[..., 0], luma, atol=0.51)


@pytest.mark.parametrize(
    "size", [0, -3, True, 2.5, "8", (8,), (8, 8, 3), (8, 0), (8, 2.0), (8, True)], ids=lambda size: repr(size)
)
def test_bad_sizes_are_refused(tmp_path, size):
    message = f"image_size must be a positive integer or (height, width) of them; got {size!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        load_image(saved(tmp_path / "a.png", GREY), image_size=size)


@pytest.mark.parametrize("channels", [0, 2, 4, True, "3"], ids=lambda channels: repr(channels))
def test_bad_channels_are_refused(tmp_path, channels):
    with pytest.raises(ValueError, match=rf"^channels must be 1 \(grey\), 3 \(RGB\) or None .*; got {channels!r}\."):
        load_image(saved(tmp_path / "a.png", GREY), channels=channels)


def test_bad_arguments_are_refused_before_the_file_is_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"^channels must be"):
        load_image(tmp_path / "none.png", channels=2)


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", GREY)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"Decoding images needs Pillow\. .* pip install pillow"):
        load_image(path)
