"""What of keras-cv 0.9.0 works on this backend, as docs/images.md says, and beside our own layers and callbacks."""

import contextlib
from pathlib import Path

import keras
import numpy as np
import pytest

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches, AugmentedBatches
from kerasblocks.distillation import Distiller
from kerasblocks.layers import DropPath, ResidualBlock, RMSNorm, SwiGLU
from kerasblocks.models import lenet5
from kerasblocks.training import Run, exclude_vectors_from_weight_decay

keras_cv = pytest.importorskip("keras_cv", reason="keras-cv is not installed")

BACKENDS = ("tensorflow", "jax", "torch")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((8, 32, 32, 3), "float32")
LABELS = np.arange(8) % 4
ONE_HOT = np.eye(4, dtype="float32")[LABELS]


def augments(*layers):
    """Returns a trial of layers that change images."""

    def trial():
        for layer in layers:
            found = keras.ops.convert_to_numpy(layer()(keras.ops.convert_to_tensor(IMAGES), training=True))
            assert found.shape == IMAGES.shape
            assert np.isfinite(found).all()
            assert not np.array_equal(found, IMAGES)

    return trial


def in_a_sequential():
    pipeline = keras.Sequential([keras_cv.layers.RandomFlip(), keras_cv.layers.RandomCutout(0.3, 0.3)])
    assert pipeline(keras.ops.convert_to_tensor(IMAGES), training=True).shape == IMAGES.shape


def mixes(*layers, tensors=True):
    """Returns a trial of layers that mix images and labels."""

    def trial():
        convert = keras.ops.convert_to_tensor if tensors else np.asarray
        for layer in layers:
            found = layer()({"images": convert(IMAGES), "labels": convert(ONE_HOT)}, training=True)
            labels = keras.ops.convert_to_numpy(found["labels"])
            np.testing.assert_allclose(labels.sum(axis=-1), 1, rtol=1e-5)
            assert not np.array_equal(keras.ops.convert_to_numpy(found["images"]), IMAGES)

    return trial


def trains(*layers):
    """Returns a trial of layers in a model."""

    def trial():
        for layer in layers:
            inside = [keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3), layer()]
            fits(keras.Sequential([*inside, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)]))

    return trial


def fits(model, loss=None):
    model.compile("adam", loss or keras.losses.CategoricalCrossentropy(from_logits=True))
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    assert np.isfinite(model.fit(IMAGES, ONE_HOT, verbose=0).history["loss"]).all()
    after = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def losses():
    for loss in (keras_cv.losses.FocalLoss(from_logits=True), keras_cv.losses.SmoothL1Loss()):
        fits(keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]), loss)


STACKS = {"stackwise_filters": [8, 16], "stackwise_blocks": [2, 2], "stackwise_strides": [1, 2]}
BACKBONES = {
    "ResNetBackbone": STACKS,
    "ResNetV2Backbone": STACKS,
    "CSPDarkNetBackbone": {"stackwise_channels": [8, 16], "stackwise_depth": [1, 1]},
}


def backbone(name="ResNetBackbone"):
    kind = getattr(keras_cv.models, name)
    return kind(**BACKBONES[name], include_rescaling=False, input_shape=(32, 32, 3))


def classifies(name):
    """Returns a trial of a backbone in keras-cv's classifier, which is trained, saved and loaded."""

    def trial(tmp_path):
        model = keras_cv.models.ImageClassifier(backbone=backbone(name), num_classes=4)
        fits(model, "categorical_crossentropy")
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)

    return trial


_IN_0_1 = (0.0, 1.0)
TRIALS = {
    "`RandAugment`, `AugMix`": (
        augments(lambda: keras_cv.layers.RandAugment(_IN_0_1), lambda: keras_cv.layers.AugMix(_IN_0_1)),
        BACKENDS,
    ),
    "`RandomFlip`, `RandomRotation`, `RandomZoom`, `RandomCutout`, `GridMask`": (
        augments(
            lambda: keras_cv.layers.RandomFlip("horizontal_and_vertical", seed=1),
            lambda: keras_cv.layers.RandomRotation(0.2),
            lambda: keras_cv.layers.RandomZoom((0.2, 0.5)),
            lambda: keras_cv.layers.RandomCutout(0.3, 0.3),
            lambda: keras_cv.layers.GridMask(),
        ),
        BACKENDS,
    ),
    "`RandomColorJitter`, `RandomGaussianBlur`, `Equalization`, `Solarization`, `Posterization`": (
        augments(
            lambda: keras_cv.layers.RandomColorJitter(_IN_0_1, 0.1, 0.1, 0.1, 0.1),
            lambda: keras_cv.layers.RandomGaussianBlur(3, (1.0, 2.0)),
            lambda: keras_cv.layers.Equalization(_IN_0_1),
            lambda: keras_cv.layers.Solarization(_IN_0_1, threshold_factor=0.5),
            lambda: keras_cv.layers.Posterization(_IN_0_1, 2),
        ),
        BACKENDS,
    ),
    "`RandomFlip`, `RandomCutout` in a `Sequential`": (in_a_sequential, ("tensorflow", "torch")),
    "`MixUp`, `CutMix`, `FourierMix` of tensors": (
        mixes(keras_cv.layers.MixUp, keras_cv.layers.CutMix, keras_cv.layers.FourierMix),
        BACKENDS,
    ),
    "`MixUp`, `CutMix` of NumPy arrays": (
        mixes(keras_cv.layers.MixUp, keras_cv.layers.CutMix, tensors=False),
        ("jax", "torch"),
    ),
    "`DropPath`, `SqueezeAndExcite2D`, `SpatialPyramidPooling` in a model": (
        trains(
            lambda: keras_cv.layers.DropPath(0.2),
            lambda: keras_cv.layers.SqueezeAndExcite2D(8, 4),
            lambda: keras_cv.layers.SpatialPyramidPooling([1, 2]),
        ),
        BACKENDS,
    ),
    "`DropBlock2D` in a model": (trains(lambda: keras_cv.layers.DropBlock2D(0.2, 3)), ()),
    "`FocalLoss`, `SmoothL1Loss`": (losses, BACKENDS),
    **{f"`{name}` in `ImageClassifier`: trained, saved, loaded": (classifies(name), BACKENDS) for name in BACKBONES},
}


@pytest.mark.parametrize("name", TRIALS)
def test_what_works_on_this_backend_is_what_the_table_says(name, tmp_path):
    trial, works = TRIALS[name]
    fails = keras.backend.backend() not in works
    with pytest.raises((AttributeError, TypeError, ValueError)) if fails else contextlib.nullcontext():
        trial(*([tmp_path] if trial.__code__.co_argcount else []))


def test_the_table_is_the_guides():
    lines = ["| of keras-cv 0.9.0 | TensorFlow | JAX | PyTorch |", "| --- | --- | --- | --- |"]
    for name, (_, works) in TRIALS.items():
        lines.append(f"| {name} | {' | '.join('yes' if each in works else 'no' for each in BACKENDS)} |")
    guide = (Path(__file__).parents[1] / "docs" / "images.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in guide
    assert f"keras-cv {keras_cv.__version__}" in guide


def callbacks():
    return [WarmupCosine(), GradientNormLogger(), TerminateOnNaN()]


def test_a_pipeline_of_keras_cv_feeds_our_batches():
    images = keras.ops.convert_to_tensor(IMAGES)
    for layer in (keras_cv.layers.RandomFlip(), keras_cv.layers.RandomCutout(0.3, 0.3)):
        images = layer(images, training=True)
    images = keras.ops.convert_to_numpy(images)
    batches = ArrayBatches(images, ONE_HOT, batch_size=4)
    mixed = AugmentedBatches(batches, "mixup", library="keras-cv")
    model = lenet5((32, 32, 3), 4)
    model.compile("adamw", keras.losses.CategoricalCrossentropy(from_logits=True))
    for each in (batches, mixed):
        history = model.fit(each, epochs=2, callbacks=callbacks(), verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert np.isfinite(history["grad_norm"]).all()


class Interrupted(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.once
def test_our_layers_and_a_run_that_is_interrupted_work_on_their_backbone(tmp_path):
    def model():
        keras.utils.set_random_seed(0)
        features = backbone()
        x = keras.layers.Reshape((-1, features.output.shape[-1]))(features.output)
        x = ResidualBlock([RMSNorm(), SwiGLU(8), DropPath(0.1)])(x)
        logits = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling1D()(x))
        found = keras.Model(features.input, logits)
        optimizer = keras.optimizers.AdamW(0.01)
        exclude_vectors_from_weight_decay(optimizer, found.trainable_variables)
        found.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
        return found

    def fit(folder, interrupted_in=None):
        found = model()
        cut = Interrupted(interrupted_in)
        batches = ArrayBatches(IMAGES, ONE_HOT, batch_size=4)
        Run(tmp_path / folder).fit(found, batches, epochs=3, callbacks=[*callbacks(), cut], verbose=0)
        return found

    whole = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("cut", interrupted_in=1)
    resumed = fit("cut")
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
    whole.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), whole.predict(IMAGES, verbose=0), atol=1e-5)


def test_our_layers_and_a_run_work_on_their_backbone(tmp_path):
    keras.utils.set_random_seed(0)
    features = backbone()
    x = keras.layers.Reshape((-1, features.output.shape[-1]))(features.output)
    x = ResidualBlock([RMSNorm(), SwiGLU(8), DropPath(0.1)])(x)
    logits = keras.layers.Dense(4)(keras.layers.GlobalAveragePooling1D()(x))
    model = keras.Model(features.input, logits)
    optimizer = keras.optimizers.AdamW(0.01)
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    batches = ArrayBatches(IMAGES, ONE_HOT, batch_size=4)
    history = Run(tmp_path / "run").fit(model, batches, epochs=2, callbacks=callbacks(), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert min(history["grad_norm"]) > 0
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), atol=1e-5)


def teacher_of_keras_cv():
    return keras_cv.models.ImageClassifier(backbone=backbone(), num_classes=4, activation="softmax")


def teacher_of_keras_hub():
    models = pytest.importorskip("keras_hub").models
    stages = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    return models.ImageClassifier(backbone=stages, num_classes=4, activation="softmax")


@pytest.mark.parametrize("teacher", [teacher_of_keras_cv, teacher_of_keras_hub], ids=["keras-cv", "keras-hub"])
def test_a_backbone_can_be_a_teacher(teacher):
    teaching = teacher()
    before = [keras.ops.convert_to_numpy(variable) for variable in teaching.variables]
    student = keras.Sequential([lenet5((32, 32, 3), 4), keras.layers.Softmax()])
    distiller = Distiller(student=student, teacher=teaching, alpha=0.3, from_logits=False)
    distiller.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    logs = distiller.fit(IMAGES, LABELS, epochs=2, callbacks=callbacks(), verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert min(logs["distillation_loss"]) > 0
    for one, other in zip(before, teaching.variables, strict=True):
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(other))
