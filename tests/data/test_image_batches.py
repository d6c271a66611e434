import os
import pickle
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from PIL import Image

from kerasblocks.data import ArrayBatches, ImageBatches, colour_components, find_images


@pytest.fixture
def files(tmp_path):
    """Makes nine files, each of one colour that tells its number, of unequal sizes."""
    paths = []
    for number in range(9):
        paths.append(tmp_path / f"{number}.png")
        pixels = np.full((20 + number, 30 - number, 3), 10 * number, "uint8")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def numbers(x):
    """Returns which files are in a batch."""
    return (x[:, 0, 0, 0] * 25.5).round().astype(int).tolist()


def batches_of(files, **options):
    return ImageBatches(files, range(len(files)), **{"image_size": 8, "batch_size": 4, "seed": 5} | options)


def test_the_order_is_that_of_arrays(files):
    batches = batches_of(files)
    arrays = ArrayBatches(np.arange(9), np.arange(9), batch_size=4, seed=5)
    for epoch in range(2):
        for index in range(3):
            x, y = batches.batch(epoch, index)
            assert x.shape == (len(y), 8, 8, 3)
            assert x.dtype == np.float32
            assert y.dtype == np.int64
            assert numbers(x) == y.tolist() == arrays.batch(epoch, index)[1].tolist()


@pytest.mark.parametrize("options", [{"threads": 1, "ahead": 0}, {"threads": 3, "ahead": 2}, {"ahead": 9}], ids=str)
def test_a_batch_is_a_function_of_seed_epoch_and_index(files, options):
    changing = {"random_crop": True, "mirror": True, "colour_jitter": 0.1, "colours": colour_components(files)}
    batches, other = batches_of(files, **changing, **options), batches_of(files, **changing)
    wanted = {(epoch, index): other.batch(epoch, index) for epoch in range(3) for index in range(3)}
    asked = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 1), (0, 1), (0, 1), (2, 2), (1, 1)]
    for key in asked:
        for one, two in zip(batches.batch(*key), wanted[key], strict=True):
            np.testing.assert_array_equal(one, two)
    assert (wanted[0, 0][0].min(axis=(1, 2, 3)) != wanted[1, 0][0].min(axis=(1, 2, 3))).any()


def test_batches_are_made_ahead_by_other_threads(files, monkeypatch):
    from kerasblocks.data import image_batches

    makers, decode = [], image_batches.pixels_of

    def noting(*args, **kwargs):
        makers.append(threading.current_thread().name)
        return decode(*args, **kwargs)

    monkeypatch.setattr(image_batches, "pixels_of", noting)
    batches = batches_of(files)
    for index in range(3):
        batches.batch(0, index)
    assert threading.current_thread().name not in makers
    assert sum(name.startswith("kerasblocks-batches") for name in makers) >= 5


def test_the_middle_is_cropped_and_the_shorter_side_resized(tmp_path):
    pixels = np.zeros((40, 80, 3), "uint8")
    pixels[:, 18:62] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x, _ = ImageBatches([tmp_path / "a.png"], [0], image_size=20, shorter_side=20, batch_size=1).batch(0, 0)
    np.testing.assert_array_equal(x, np.ones((1, 20, 20, 3), "float32"))
    wide, _ = ImageBatches([tmp_path / "a.png"], [0], image_size=(20, 36), shorter_side=36, batch_size=1).batch(0, 0)
    assert wide.shape == (1, 20, 36, 3)


def test_crops_and_mirrors_vary_over_the_whole_range(tmp_path):
    pixels = np.arange(16, dtype="uint8").reshape(4, 4, 1).repeat(3, -1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    batches = ImageBatches(
        [tmp_path / "a.png"], [0], image_size=3, shorter_side=4, batch_size=1, random_crop=True, mirror=True
    )
    seen = {tuple((batches.batch(epoch, 0)[0][0, 0, :2, 0] * 255).round().astype(int)) for epoch in range(200)}
    starts = [0, 1, 4, 5]
    assert seen == {(start, start + 1) for start in starts} | {(start + 2, start + 1) for start in starts}


def test_colours_move_along_their_components(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(4):
        strength = rng.normal(0, 30, (30, 30, 1))
        paths.append(tmp_path / f"{number}.png")
        pixels = 128 + strength * np.array([1.0, 0.5, 0.1]) + rng.normal(0, 2, (30, 30, 3))
        Image.fromarray(pixels.clip(0, 255).astype("uint8")).save(paths[-1])
    colours = colour_components(paths, side=30)
    np.testing.assert_allclose(colours.axes[:, 0], np.array([1, 0.5, 0.1]) / np.linalg.norm([1, 0.5, 0.1]), atol=0.01)
    assert colours.variances[0] == pytest.approx((30 / 255) ** 2 * 1.26, rel=0.1)
    settings = {"image_size": 8, "shorter_side": 8, "batch_size": 4, "shuffle": False}
    plain = ImageBatches(paths, [0] * 4, **settings).batch(0, 0)[0]
    moved = ImageBatches(paths, [0] * 4, **settings, colour_jitter=100.0, colours=colours).batch(0, 0)[0]
    shifts = (moved - plain)[:, 0, 0]
    np.testing.assert_allclose(moved - plain, np.broadcast_to(shifts[:, None, None], plain.shape), atol=1e-5)
    assert np.abs(shifts).min(axis=0).max() > 0
    along = np.abs(shifts @ colours.axes)
    assert (along[:, 0] > along[:, 1]).all()


@pytest.fixture
def with_corrupt(files):
    files[3].write_bytes(b"no image")
    files[6].write_bytes(files[6].read_bytes()[:60])
    return files


def test_a_corrupt_file_is_named(with_corrupt):
    with pytest.raises(ValueError, match=r"[36]\.png: not a whole image file .*Pass skip_corrupt=True"):
        list(batches_of(with_corrupt).iterate())


def test_corrupt_files_are_passed_over(with_corrupt):
    shuffled, ordered = (batches_of(with_corrupt, skip_corrupt=True, shuffle=shuffle) for shuffle in (True, False))
    labels = [batch[1].tolist() for batch in shuffled.iterate()]
    assert [len(each) for each in labels] == [4, 4, 1]
    assert {label for each in labels for label in each} == {0, 1, 2, 4, 5, 7, 8}
    for batch in shuffled.iterate():
        assert numbers(batch[0]) == batch[1].tolist()
    assert [batch[1].tolist() for batch in ordered.iterate()] == [[0, 1, 2], [4, 5, 7], [8]]
    assert set(shuffled.corrupt) == set(ordered.corrupt) == {with_corrupt[3], with_corrupt[6]}
    assert "not a whole image file" in ordered.corrupt[with_corrupt[3]]


def test_a_batch_of_corrupt_files_is_refused(files):
    for file in files[:4]:
        file.write_bytes(b"no image")
    with pytest.raises(ValueError, match="No file of batch 0 of epoch 0 is a whole image"):
        batches_of(files, skip_corrupt=True, shuffle=False).batch(0, 0)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_batch_of_corrupt_files_gets_another_image_where_the_order_is_random(files, batch_size):
    for file in files[1:]:
        file.write_bytes(b"no image")
    batches = batches_of(files, skip_corrupt=True, batch_size=batch_size)
    assert [batches.batch(2, index)[1].tolist() for index in range(len(batches) - 1)] == [[0] * batch_size] * (
        len(batches) - 1
    )
    assert len(batches.corrupt) == len(files) - 1
    files[0].write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"No file of batch 0 of epoch 0 is a whole image, as .*\.png"):
        batches_of(files, skip_corrupt=True).batch(0, 0)


def test_a_file_that_is_gone_is_passed_over_and_changes_the_fingerprint(files):
    before = batches_of(files, skip_corrupt=True).fingerprint
    files[2].unlink()
    batches = batches_of(files, skip_corrupt=True)
    assert batches.fingerprint != before
    list(batches.iterate())
    assert list(batches.corrupt) == [files[2]]
    with pytest.raises(FileNotFoundError, match=r"2\.png"):
        _ = batches_of(files).fingerprint


def test_an_image_that_would_become_huge_is_refused_or_passed_over(files):
    Image.fromarray(np.zeros((1, 60_000), "uint8")).save(files[2])
    with pytest.raises(ValueError, match=r"2\.png: 1 x 60000 pixels would become .*: it is too narrow"):
        list(batches_of(files, image_size=227).iterate())
    batches = batches_of(files, image_size=227, skip_corrupt=True)
    list(batches.iterate())
    assert list(batches.corrupt) == [files[2]]


def test_labels_are_those_of_the_beginning(files):
    labels = np.arange(9)
    batches = ImageBatches(files, labels, image_size=8, batch_size=9, shuffle=False)
    labels[:] = -7
    assert batches.batch(0, 0)[1].tolist() == list(range(9))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "abcdefghi"}, "images must be several paths or arrays; got the one path 'abcdefghi'"),
        ({"colours": 3, "colour_jitter": 0.1}, "colours must be what colour_components returns; got 3"),
    ],
    ids=["one path", "colours"],
)
def test_what_is_of_another_type_is_refused(options, message, files):
    with pytest.raises(ValueError, match=message):
        ImageBatches(**{"images": files, "labels": range(9), "image_size": 8, "batch_size": 4} | options)


def test_a_name_that_is_no_text_has_a_fingerprint(tmp_path):
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for number in range(3):
            Image.new("L", (9, 9)).save(tmp_path / kind / f"{number}.png")
    (tmp_path / "a" / "0.png").rename(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.png"))
    found = find_images(tmp_path)
    assert len(found.fingerprint) == 64
    assert ImageBatches(found.train_files, found.y_train, image_size=8, batch_size=2).fingerprint["images"]


def test_images_of_many_pixels_are_refused(files):
    with pytest.raises(ValueError, match=r"refused, it may be a decompression bomb: .* more than 599"):
        list(batches_of(files, max_pixels=599).iterate())


def test_arrays_are_images_as_files_are(files):
    arrays = [np.asarray(Image.open(file)) for file in files]
    for options in ({"random_crop": True, "mirror": True}, {"channels": 1}):
        for one, two in zip(
            batches_of(arrays, **options).batch(2, 1), batches_of(files, **options).batch(2, 1), strict=True
        ):
            np.testing.assert_allclose(one, two, atol=1 / 255)
    assert batches_of(arrays).fingerprint != batches_of([*arrays[1:], arrays[0]]).fingerprint
    with pytest.raises(
        ValueError, match=r"An image must be a file, or a uint8 array of shape .*; got float64 \(2, 2\)"
    ):
        batches_of([np.ones((2, 2))])


def test_fit_follows_the_epochs(files, monkeypatch):
    seen = []

    class Noting(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(keras.ops.mean(x, axis=(1, 2)))

    made = ImageBatches._made
    monkeypatch.setattr(
        ImageBatches, "_made", lambda self, epoch, index: seen.append((epoch, index)) or made(self, epoch, index)
    )
    batches = batches_of(files)
    model = Noting()
    model.compile("sgd", "mse")
    model.fit(batches, epochs=2, verbose=0)
    assert {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)} <= set(seen)


def test_the_fingerprint_knows_files_and_settings(files):
    one = batches_of(files).fingerprint
    assert one == batches_of(files).fingerprint
    assert one != batches_of(files, random_crop=True).fingerprint
    files[0].write_bytes(files[0].read_bytes() + b" ")
    assert one != batches_of(files).fingerprint


def test_batches_can_be_pickled(files):
    batches = batches_of(files)
    batches.batch(0, 0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(batches)).batch(0, 1)[0], batches.batch(0, 1)[0])  # noqa: S301


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size must be a positive integer"),
        ({"image_size": None}, "image_size and channels must be given"),
        ({"channels": None}, "image_size and channels must be given"),
        ({"channels": 2}, "channels must be 1"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1; got 0"),
        ({"shorter_side": 7}, r"shorter_side must be at least that of image_size; got 7 for \(8, 8\)"),
        ({"colour_jitter": 0.1}, "colour_jitter must be 0 or more, and above 0 needs colours and 3 channels; got 0.1"),
        ({"colour_jitter": -1}, "colour_jitter must be 0 or more"),
        (
            {"colours": colour_components([np.zeros((2, 2, 3), "uint8")])},
            "colours have no effect without a colour_jitter",
        ),
        ({"mirror": 1}, "mirror must be True or False; got 1"),
        ({"drop_remainder": True, "batch_size": 10}, "There must be at least one batch of 10; got 9 images"),
        ({"threads": 0}, "threads must be an integer of at least 1; got 0"),
        ({"max_pixels": 0}, "max_pixels must be an integer of at least 1; got 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(files, options, message):
    with pytest.raises(ValueError, match=message):
        batches_of(files, **options)


def test_labels_must_fit_the_files(files):
    with pytest.raises(ValueError, match="labels must have one label an image; got 2 labels for 9 images"):
        ImageBatches(files, [0, 1], image_size=8, batch_size=2)
    with pytest.raises(ValueError, match="labels must not be negative"):
        ImageBatches(files, [-1] * 9, image_size=8, batch_size=2)


class TestFindImages:
    @pytest.fixture
    def tree(self, tmp_path):
        for split, count in (("train", 3), ("val", 2)):
            for name in ("cat", "dog"):
                (tmp_path / split / name).mkdir(parents=True)
                for number in range(count):
                    (tmp_path / split / name / f"{number}.jpg").write_bytes(b"not looked at" * number)
        return tmp_path

    def test_splits(self, tree):
        found = find_images(tree)
        assert found.class_names == ("cat", "dog")
        assert [path.relative_to(tree).as_posix() for path in found.test_files] == [
            f"val/{name}/{number}.jpg" for name in ("cat", "dog") for number in range(2)
        ]
        assert found.y_train.tolist() == [0] * 3 + [1] * 3
        assert found.num_classes == 2

    def test_a_limit_takes_from_the_classes_in_turn(self, tree):
        assert find_images(tree, limit=2).y_train.tolist() == [0, 1]

    def test_the_fingerprint_knows_sizes(self, tree):
        before = find_images(tree).fingerprint
        assert before == find_images(tree).fingerprint
        (tree / "train" / "cat" / "0.jpg").write_bytes(b"other")
        assert before != find_images(tree).fingerprint

    def test_bad_sources_are_refused(self, tree):
        with pytest.raises(FileNotFoundError, match="no such folder of images"):
            find_images(tree / "nowhere")
        with pytest.raises(ValueError, match="limit must be an integer of at least 1; got 0"):
            find_images(tree, limit=0)
        (tree / "test" / "cat").mkdir(parents=True)
        with pytest.raises(ValueError, match=r"must hold train/ and test/ \(or val/\) and no other folder"):
            find_images(tree)


def test_components_of_colour_keep_to_the_limit_of_pixels(tmp_path):
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.fromarray(np.full((4, 4, 3), 10, "uint8")).save(small)
    Image.fromarray(np.full((9, 9, 3), 250, "uint8")).save(large)
    assert colour_components([small, large], max_pixels=80).mean == pytest.approx([10 / 255] * 3)
    with pytest.raises(ValueError, match=r"of at most max_pixels=80; of 1 given, 1 were looked at and none is"):
        colour_components([large], max_pixels=80)


FORKED = """
import os, signal, time
import numpy as np
from kerasblocks.data import ImageBatches
batches = ImageBatches([*np.zeros((12, 8, 8, 3), "uint8")], np.arange(12) % 2, image_size=8, batch_size=2)
batches.batch(0, 0)
child = os.fork()
if child == 0:
    os._exit(0 if batches.batch(0, 2)[0].shape == (2, 8, 8, 3) else 1)
end = time.monotonic() + 20
while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
    time.sleep(0.02)
if done == (0, 0):
    os.kill(child, signal.SIGKILL)
print(done == (child, 0))
"""


@pytest.mark.once
def test_batches_come_after_a_fork():
    result = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True"]
