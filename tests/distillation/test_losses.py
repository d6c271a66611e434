import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from distillation import divergence

from kerasblocks.distillation import (
    AttentionTransfer,
    DistillationLoss,
    FeatureDistillation,
    LogitsDistillation,
    OutputDistillation,
)

LAYERS = {"teacher_layer": "t", "student_layer": "s"}


@pytest.mark.parametrize(
    "loss",
    [
        LogitsDistillation(temperature=3.0, divergence="jensen_shannon", head="sigmoid", weight=2.0, output_name="a"),
        LogitsDistillation(temperature=keras.optimizers.schedules.CosineDecay(3.0, 10)),
        OutputDistillation("mae", weight=0.5, output_name=1),
        OutputDistillation(keras.losses.Huber(2.0), **LAYERS),
        FeatureDistillation(**LAYERS, loss="mae", projection=True, axis=1),
        AttentionTransfer(**LAYERS, power=1.0, axis=1),
    ],
    ids=["logits", "schedule", "outputs", "object", "features", "attention"],
)
def test_configurations_make_the_same_loss_again(loss):
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(loss)
    assert keras.saving.serialize_keras_object(again) == config


def test_features_of_equal_width_are_compared_as_they_are():
    student, teacher = random((4, 3, 5)), random((4, 3, 5), seed=1)
    loss = FeatureDistillation(**LAYERS)
    found = to_numpy(loss(student, teacher))
    np.testing.assert_allclose(found, ((student - teacher) ** 2).mean(-1), rtol=1e-5)
    assert loss.count_params() == 0
    loss = FeatureDistillation(**LAYERS, loss=lambda right, said: keras.ops.max(keras.ops.abs(right - said), axis=-1))
    np.testing.assert_allclose(to_numpy(loss(student, teacher)), abs(student - teacher).max(-1), rtol=1e-5)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_projection_leads_to_the_teachers_width(axis):
    student, teacher = random((4, 3, 5)), random((4, 3, 7), seed=1)
    if axis == 1:
        student, teacher = (np.moveaxis(each, -1, 1) for each in (student, teacher))
    loss = FeatureDistillation(**LAYERS, axis=axis)
    found = to_numpy(loss(student, teacher))
    kernel, bias = (to_numpy(each) for each in loss.trainable_variables)
    assert kernel.shape == (5, 7)
    expected = (np.moveaxis(student, axis, -1) @ kernel + bias - np.moveaxis(teacher, axis, -1)) ** 2
    np.testing.assert_allclose(found, expected.mean(-1), rtol=1e-4)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((4, 3, 5), (4, 3, 7)), {"projection": False}, "Without a projection the widths must be equal"),
        (((4, 3, 5), (4, 2, 5)), {}, "must have the same sizes but for the batch and the width"),
        (((4, 5), (4, 2, 5)), {}, "equally many axes"),
        (((4, 5), (4, 5)), {"axis": 3}, "axis=3 is no axis of channels"),
    ],
    ids=["width", "positions", "rank", "axis"],
)
def test_features_that_do_not_fit_are_refused(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        FeatureDistillation(**LAYERS, **options)(*(np.zeros(shape, "float32") for shape in shapes))


def test_a_projection_serves_one_width():
    loss = FeatureDistillation(**LAYERS)
    loss(random((4, 5)), random((4, 7)))
    with pytest.raises(
        ValueError, match="was made for a width of 5, the student's features have 6: give each Distiller"
    ):
        loss(random((4, 6)), random((4, 7)))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_attention_maps(power):
    student, teacher = random((4, 3, 2, 5)), random((4, 3, 2, 9), seed=1)
    maps = [(abs(each.astype("float64")) ** power).sum(-1).reshape(4, -1) for each in (student, teacher)]
    maps = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in maps]
    found = AttentionTransfer(**LAYERS, power=power)(student, teacher)
    np.testing.assert_allclose(to_numpy(found), ((maps[0] - maps[1]) ** 2).sum(1), rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_attention_of_nothing_and_of_huge_numbers_is_finite(scale):
    student = np.float32(scale) * abs(random((2, 3, 3, 4)))
    found = to_numpy(AttentionTransfer(**LAYERS)(student, random((2, 3, 3, 6), seed=1)))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= 2 + 1e-5).all()


def test_attention_needs_positions_and_the_same_ones():
    with pytest.raises(ValueError, match="compares layers with positions"):
        AttentionTransfer(**LAYERS)(random((4, 5)), random((4, 5)))
    with pytest.raises(
        ValueError, match=r"compares tensors of one shape; the student's has \(4, 3, 2\), the teacher's"
    ):
        AttentionTransfer(**LAYERS)(random((4, 3, 2, 5)), random((4, 2, 3, 5)))


def test_outputs_are_compared_by_any_loss_of_keras():
    student, teacher = random((4, 3)), random((4, 3), seed=1)
    for loss, expected in (
        ("mse", ((student - teacher) ** 2).mean(-1)),
        (keras.losses.MeanAbsoluteError(), abs(student - teacher).mean(-1)),
    ):
        np.testing.assert_allclose(to_numpy(OutputDistillation(loss)(student, teacher)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"the student's has \(4, 3\), the teacher's \(4, 2\)"):
        OutputDistillation()(student, teacher[:, :2])


def test_logits_are_compared_by_the_formula():
    student, teacher = random((4, 3)), random((4, 3), seed=1)
    found = LogitsDistillation(temperature=5)(student, teacher)
    np.testing.assert_allclose(to_numpy(found), divergence(teacher, student, 5.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistillationLoss(weight=-1), "weight must be 0 or more; got -1"),
        (lambda: DistillationLoss(weight="heavy"), "weight must be a finite number"),
        (lambda: DistillationLoss(teacher_layer="t"), "Give a layer of each model, or of none"),
        (lambda: DistillationLoss(teacher_layer=1, student_layer="s"), "teacher_layer must be the name of a layer"),
        (lambda: DistillationLoss(**LAYERS, output_name="a"), "compares layers or outputs"),
        (lambda: DistillationLoss(output_name=1.5), "output_name must be the name or the place of an output"),
        (lambda: LogitsDistillation(temperature=-2), r"temperature must be above 0; got -2"),
        (lambda: LogitsDistillation(divergence="kl"), "divergence must be one of"),
        (lambda: LogitsDistillation(head="none"), "head must be one of"),
        (lambda: OutputDistillation(3), "loss must be the name of a loss of Keras, a loss object or a function; got 3"),
        (lambda: FeatureDistillation(**LAYERS, projection="yes"), "projection must be one of 'auto'; got 'yes'"),
        (lambda: FeatureDistillation(**LAYERS, axis=0), "axis must be that of the channels"),
        (lambda: AttentionTransfer(**LAYERS, power=0), "power must be above 0; got 0"),
    ],
    ids=range(13),
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loss_of_ones_own_must_compare():
    with pytest.raises(NotImplementedError, match=r"DistillationLoss must override call\(student, teacher\)"):
        DistillationLoss()(random((2, 3)), random((2, 3)))


def test_what_cannot_be_loaded_is_not_saved():
    with pytest.raises(TypeError, match="cannot be saved: define it with a name"):
        OutputDistillation(lambda teacher, student: teacher - student).get_config()


def test_the_mean_is_the_distillers():
    with pytest.raises(ValueError, match="reduction='sum'"):
        OutputDistillation(keras.losses.MeanSquaredError(reduction="sum"))
