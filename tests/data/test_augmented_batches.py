import importlib.util
import os
import pickle
import signal
import threading

import keras
import numpy as np
import pytest

from kerasblocks.data import ArrayBatches, AugmentedBatches, ImageBatches, augmented_batches

pytestmark = pytest.mark.once  # The layers run in a process of their own, by keras-cv on TensorFlow alone.

LIBRARIES = [
    pytest.param("keras", id="keras"),
    pytest.param(
        "keras-cv",
        id="keras-cv",
        marks=[
            pytest.mark.skipif(importlib.util.find_spec("keras_cv") is None, reason="keras-cv is not installed"),
        ],
    ),
]
RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 10, 8, 3), "float32")
LABELS = np.arange(12) % 4
ONE_HOT = np.eye(4, dtype="float32")[LABELS]


def augmented(kind, library="keras", labels=ONE_HOT, images=IMAGES, **options):
    return AugmentedBatches(ArrayBatches(images, labels, batch_size=5, seed=1), kind, library=library, **options)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["randaugment", "mixup", "cutmix"])
def test_a_batch_is_a_function_of_seed_epoch_and_index(kind, library):
    keras.utils.set_random_seed(3)
    state = keras.ops.convert_to_numpy(keras.random.uniform((3,)))
    keras.utils.set_random_seed(3)
    one, other = augmented(kind, library, seed=7), augmented(kind, library, seed=7, ahead=0)
    wanted = {(epoch, index): other.batch(epoch, index) for epoch in range(2) for index in range(3)}
    for key in [(0, 0), (0, 1), (1, 2), (0, 1), (1, 0)]:
        for left, right in zip(one.batch(*key), wanted[key], strict=True):
            np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.random.uniform((3,))), state)
    assert len(one) == 3
    assert one.num_samples == 12
    assert [len(wanted[0, index][0]) for index in range(3)] == [5, 5, 2]
    assert not np.array_equal(augmented(kind, library, seed=8).batch(0, 0)[0], wanted[0, 0][0])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_images_are(kind, library):
    # One colour a class, told apart by the channels: what a pixel shows is the share of the classes in it.
    images = np.zeros((12, 64, 64, 3), "float32")
    labels = np.arange(12) % 3
    images[np.arange(12), :, :, labels] = 1
    batches = AugmentedBatches(
        ArrayBatches(images, np.eye(3, dtype="float32")[labels], batch_size=12, seed=1), kind, library=library
    )
    mixed = 0
    for epoch in range(4):
        x, y = batches.batch(epoch, 0)
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_allclose(x.sum(axis=-1), 1, atol=1e-6)
        if (kind, library) != ("cutmix", "keras-cv"):  # whose labels can differ from the areas
            shown = x.mean(axis=(1, 2), dtype="float64")
            np.testing.assert_allclose(shown, y, atol=1e-5 if kind == "mixup" else 2 / 64)
        np.testing.assert_allclose(y.sum(axis=-1), 1, atol=1e-5)
        mixed += (y.max(axis=-1) < 0.999).sum()
        if kind == "cutmix":
            assert set(np.unique(x.round(5))) <= {0.0, 1.0}
    assert mixed


@pytest.mark.parametrize("library", LIBRARIES)
def test_randaugment_keeps_labels_weights_and_range(library):
    weights = np.linspace(0, 1, 12, dtype="float32")
    jittered = IMAGES * 1.4 - 0.2  # as far as colour jitter goes
    plain = ArrayBatches(jittered, LABELS, weights, batch_size=6, seed=1)
    batches = AugmentedBatches(plain, "randaugment", library=library)
    x, y, w = batches.batch(0, 1)
    np.testing.assert_array_equal(y, plain.batch(0, 1)[1])
    np.testing.assert_array_equal(w, plain.batch(0, 1)[2])
    assert x.shape == (6, 10, 8, 3)
    assert not np.allclose(x, plain.batch(0, 1)[0])
    every = [batches.batch(epoch, index)[0] for epoch in range(4) for index in range(2)]
    assert np.min(every) >= 0
    assert np.max(every) <= 1


def test_images_of_any_range_and_precision_can_be_mixed():
    x, y = augmented("mixup", images=(IMAGES * 500 - 200).astype("float64"), labels=ONE_HOT.astype("int64")).batch(0, 0)
    assert x.dtype == y.dtype == np.float32
    assert x.min() < -100
    assert x.max() > 200


@pytest.mark.skipif(importlib.util.find_spec("keras_cv") is None, reason="keras-cv is not installed")
def test_keras_cv_is_taken_where_it_is_installed():
    assert augmented("mixup", None).library == "keras-cv"


def test_keras_is_taken_where_keras_cv_is_not_installed(monkeypatch):
    monkeypatch.setattr(augmented_batches.importlib.util, "find_spec", lambda name: None)
    assert augmented("mixup", None).library == "keras"
    with pytest.raises(ValueError, match=r"library 'keras-cv' is not installed: pip install 'kerasblocks\[cv\]'"):
        augmented("mixup", "keras-cv")


def test_fit_takes_them_and_predict_does_not():
    batches = AugmentedBatches(
        ImageBatches([*(IMAGES * 255).astype("uint8")], LABELS, image_size=8, batch_size=6, num_classes=4),
        "cutmix",
        library="keras",
    )
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1))
    history = model.fit(batches, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    with pytest.raises(ValueError, match="these are shuffled: augment those of the training only"):
        model.predict(batches, verbose=0)


def test_they_survive_pickling():
    batches = augmented("mixup")
    wanted = batches.batch(1, 1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(batches)).batch(1, 1)[0], wanted[0])  # noqa: S301


@pytest.mark.parametrize("processes", [1, 2])
def test_as_many_processes_work_as_were_asked_for_and_give_the_same(processes, monkeypatch):
    used, lock = set(), threading.Lock()
    make = augmented_batches._Augmenter.__call__

    def seen(self, kind, seed, arrays):
        with lock:
            if arrays[0].shape[1] == 9:  # Batches of other tests may still be made ahead.
                used.add(id(self))
        return make(self, kind, seed, arrays)

    monkeypatch.setattr(augmented_batches._Augmenter, "__call__", seen)
    monkeypatch.setattr(augmented_batches, "_idle", {})
    images = IMAGES[:, :9]
    batches = augmented("mixup", images=images, processes=processes, ahead=3)
    other = augmented("mixup", images=images, ahead=0)
    found = [batches.batch(0, index)[0] for index in range(3)]
    assert len(used) == processes
    for index in range(3):
        np.testing.assert_array_equal(found[index], other.batch(0, index)[0])


def test_an_interrupt_leaves_no_answer_for_the_next_request(monkeypatch):
    augmenter = augmented_batches._Augmenter("keras")
    wanted = augmenter("mixup", 2, [IMAGES, ONE_HOT])[0]

    def interrupted(stream):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(augmented_batches._augmenting_process, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            augmenter("mixup", 1, [IMAGES, ONE_HOT])
    np.testing.assert_array_equal(augmenter("mixup", 2, [IMAGES, ONE_HOT])[0], wanted)


def test_a_process_that_ends_is_told_and_begun_again():
    augmenter = augmented_batches._Augmenter("keras")
    wanted = augmenter("mixup", 1, [IMAGES, ONE_HOT])
    first = augmenter._end.peek()[2][0]
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="The process that augments by keras has ended"):
        augmenter("mixup", 1, [IMAGES, ONE_HOT])
    np.testing.assert_array_equal(augmenter("mixup", 1, [IMAGES, ONE_HOT])[0], wanted[0])
    second = augmenter._end.peek()[2][0]
    del augmenter
    assert first.poll() is not None
    assert second.poll() is not None


def test_an_error_of_the_layer_is_told():
    class Unequal:
        def __len__(self):
            return 1

        def batch(self, epoch, index):
            return IMAGES, ONE_HOT[:5]

    with pytest.raises(RuntimeError, match="mixup by keras has failed: "):
        AugmentedBatches(Unequal(), "mixup", library="keras", ahead=0).batch(0, 0)


def test_the_fingerprint_knows_kind_library_seed_and_batches():
    prints = [
        augmented("mixup").fingerprint,
        augmented("cutmix").fingerprint,
        augmented("mixup", seed=1).fingerprint,
        augmented("mixup", images=IMAGES[::-1]).fingerprint,
    ]
    assert all(one != other for place, one in enumerate(prints) for other in prints[:place])
    assert prints[0] == augmented("mixup").fingerprint


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augmented("mix"), "kind must be one of 'randaugment', 'mixup', 'cutmix'; got 'mix'"),
        (lambda: augmented("mixup", "cv"), "library must be one of 'keras-cv', 'keras' or None; got 'cv'"),
        (
            lambda: augmented("mixup", labels=LABELS),
            r"mixup needs one-hot labels .*; batch 0 of epoch 0 has int64 \(5,\)",
        ),
        (lambda: augmented("mixup", labels=None), r"mixup needs one-hot labels .* has none"),
        (
            lambda: augmented("randaugment", images=IMAGES[..., :1]),
            "randaugment needs images of 3 channels; batch 0 of epoch 0 has 1",
        ),
        (
            lambda: augmented("randaugment", images=IMAGES * 255),
            "randaugment needs images from 0 to 1; .* has values from .* to 25",
        ),
        (
            lambda: augmented("randaugment", images=2 * IMAGES - 1),
            r"randaugment needs images from 0 to 1; .* has values from -0\.9",
        ),
        (lambda: augmented("mixup", images=IMAGES[:, 0]), r"NumPy images of floats, .* got float32 \(5, 8, 3\)"),
        (lambda: augmented("mixup", seed=-1), "seed must be an integer of at least 0; got -1"),
        (lambda: augmented("mixup", processes=0), "processes must be an integer of at least 1; got 0"),
        (lambda: augmented("mixup", ahead=-1), "ahead must be an integer of at least 0; got -1"),
        (lambda: AugmentedBatches([IMAGES], "mixup"), r"batches must have batch\(epoch, index\)"),
        (
            lambda: AugmentedBatches(ArrayBatches(IMAGES, ONE_HOT, np.ones(12), batch_size=5), "cutmix"),
            "cutmix mixes samples, whose weights would lose their meaning",
        ),
    ],
)
def test_what_cannot_be_augmented_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("kind", "images", "labels", "message"),
    [
        (
            "mixup",
            IMAGES,
            np.where(np.arange(12)[:, None] == 10, np.nan, ONE_HOT),
            "mixup needs labels that are finite",
        ),
        ("cutmix", np.where(np.arange(12)[:, None, None, None] == 10, np.inf, IMAGES), ONE_HOT, "must have finite"),
        (
            "randaugment",
            np.where(np.arange(12)[:, None, None, None] == 10, np.float32(9), IMAGES),
            ONE_HOT,
            "needs images from 0 to 1",
        ),
    ],
    ids=["label", "infinite pixel", "pixel out of range"],
)
def test_a_later_batch_that_cannot_be_augmented_is_named(kind, images, labels, message):
    batches = AugmentedBatches(
        ArrayBatches(images, labels, batch_size=5, shuffle=False), kind, library="keras", ahead=0
    )
    assert len(batches.batch(0, 0)[0]) == 5
    with pytest.raises(ValueError, match=f"{message}.*") as raised:
        batches.batch(0, 2)
    assert "batch 2 of epoch 0" in str(raised.value)
