import keras
import numpy as np
import pytest
from arrays import to_numpy
from distillation import X, Y, crossentropy, divergence, log_softmax, net

from kerasblocks.distillation import Distiller, FeatureDistillation, TeacherEnsemble


def members(classes=3):
    return [net(16, classes, seed=1), net(9, classes, seed=2)]


def test_probabilities_are_averaged():
    models = members()
    expected = sum(
        share * np.exp(log_softmax(to_numpy(model(X)))) for share, model in zip((0.25, 0.75), models, strict=True)
    )
    found = to_numpy(TeacherEnsemble(models, weights=[1, 3])(X))
    np.testing.assert_allclose(found, np.log(expected), rtol=1e-4, atol=1e-6)


def test_of_sigmoid_heads_each_class():
    models = members(1)
    expected = sum(1 / (1 + np.exp(-to_numpy(model(X)).astype("float64"))) for model in models) / 2
    found = to_numpy(TeacherEnsemble(models)(X))
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), expected, rtol=1e-5)


def test_of_probabilities_the_mean():
    models = [net(5, activation="softmax", seed=seed) for seed in (1, 2)]
    expected = sum(to_numpy(model(X)) for model in models) / 2
    np.testing.assert_allclose(to_numpy(TeacherEnsemble(models, from_logits=False)(X)), expected, rtol=1e-5)


def test_extreme_logits_stay_finite():
    def constant(*logits):
        bias = keras.initializers.Constant(np.array(logits))
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(2, "linear", True, "zeros", bias)])

    found = to_numpy(TeacherEnsemble([constant(1e4, -1e4), constant(-1e4, 1e4)])(X[:1]))
    np.testing.assert_allclose(found, [[np.log(0.5)] * 2], rtol=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_distiller_takes_several_teachers_and_tells_them_their_head(loss, tmp_path):
    teachers, student = members(), net()
    said = [to_numpy(model(X)).astype("float64") for model in teachers]
    own = to_numpy(student(X)).astype("float64")
    if loss == "softmax":
        mean = np.log(sum(np.exp(log_softmax(each)) for each in said) / 2)
        expected = divergence(mean, own, 3.0).mean()
        compiled, labels = crossentropy(), Y
    else:
        mean = sum(1 / (1 + np.exp(-each)) for each in said) / 2
        logits = np.log(mean) - np.log1p(-mean)
        pairs = [np.stack([each, np.zeros_like(each)], -1) for each in (logits, own)]
        expected = divergence(*pairs, 3.0).mean()
        compiled, labels = keras.losses.BinaryCrossentropy(from_logits=True), np.eye(3)[Y]
    model = Distiller(student=student, teacher=teachers, temperature=3.0)
    model.compile("sgd", compiled)
    logs = model.fit(X, labels, batch_size=48, verbose=0).history
    np.testing.assert_allclose(logs["distillation_loss"], [expected], rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(loaded.teacher(X)), to_numpy(model.teacher(X)), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TeacherEnsemble([net()]), "models must be two models or more in a list"),
        (lambda: TeacherEnsemble([net(), len]), "members of an ensemble must be Keras models"),
        (lambda: TeacherEnsemble([net(), net()], weights=[1]), "weights must be a number above 0 for each of 2 models"),
        (lambda: TeacherEnsemble([net(), net()], weights=[1, 0]), "weights must be a number above 0 for each"),
        (lambda: TeacherEnsemble([net(), net()], head="other"), "head must be one of"),
        (
            lambda: Distiller(student=net(), teacher=TeacherEnsemble([net(), net()], from_logits=False)),
            "The ensemble has from_logits=False, the Distiller True",
        ),
        (
            lambda: Distiller(
                student=net(),
                teacher=members(),
                losses=FeatureDistillation(teacher_layer="hidden", student_layer="hidden"),
            ),
            "The teachers are several, whose layers are not averaged",
        ),
    ],
    ids=range(7),
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
