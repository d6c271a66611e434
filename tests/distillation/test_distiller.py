import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from distillation import Subclassed, X, Y, crossentropy, divergence, log_softmax, net, weights

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches
from kerasblocks.distillation import (
    AttentionTransfer,
    DistillationLoss,
    Distiller,
    FeatureDistillation,
    LogitsDistillation,
    OutputDistillation,
    TeacherEnsemble,
)
from kerasblocks.distillation._weighted_mean import weighted_mean
from kerasblocks.training import Run, locate_nonfinite

BACKEND = keras.backend.backend()


def distiller(student=None, teacher=None, *, loss=None, optimizer="sgd", metrics=None, compiled=True, **options):
    made = Distiller(student=student or net(), teacher=teacher or net(16, seed=1), **options)
    if compiled:
        made.compile(optimizer, loss or crossentropy(), metrics=metrics)
    return made


def one_step(model, x=X, y=Y, **options):
    """Returns the logs of one step on the whole batch."""
    history = model.fit(x, y, batch_size=len(keras.tree.flatten(x)[0]), epochs=1, verbose=0, shuffle=False, **options)
    return {name: values[0] for name, values in history.history.items()}


def own_loss(logits, labels):
    return -np.take_along_axis(log_softmax(logits), labels[..., None], -1)[..., 0]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_logs_and_the_step_are_those_of_the_formula(alpha):
    student, teacher = net(), net(16, seed=1)
    said = [to_numpy(model(X)) for model in (teacher, student)]
    distillation, own = divergence(*said, 3.0).mean(), own_loss(said[1], Y).mean()
    model = distiller(student, teacher, alpha=alpha, temperature=3.0, optimizer=keras.optimizers.SGD(0.1))
    bias = to_numpy(student.get_layer("logits").bias)
    logs = one_step(model)
    np.testing.assert_allclose(logs["distillation_loss"], distillation, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], alpha * own + (1 - alpha) * distillation, rtol=1e-5)
    assert ("student_loss" in logs) == (alpha > 0)
    if alpha:
        np.testing.assert_allclose(logs["student_loss"], own, rtol=1e-5)
    softmax = [np.exp(log_softmax(each / 3)) for each in said]
    gradient = (1 - alpha) * 3 * (softmax[1] - softmax[0]) + alpha * (np.exp(log_softmax(said[1])) - np.eye(3)[Y])
    changed = to_numpy(student.get_layer("logits").bias) - bias
    np.testing.assert_allclose(changed, -0.1 * gradient.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("optimized")
def test_alpha_1_is_plain_training_step_for_step():
    plain = net(between=[keras.layers.BatchNormalization()])
    plain.compile(keras.optimizers.Adam(0.01), crossentropy())
    student = net(between=[keras.layers.BatchNormalization()])
    model = distiller(student, alpha=1.0, optimizer=keras.optimizers.Adam(0.01))
    for each in (plain, model):
        each.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    for one, other in zip(weights(plain), weights(student), strict=True):
        np.testing.assert_array_equal(one, other)


def test_alpha_1_is_not_harmed_by_a_teacher_that_is_not_finite():
    model = distiller(teacher=lambda x: keras.ops.full((keras.ops.shape(x)[0], 3), np.nan), alpha=1.0)
    assert np.isfinite(one_step(model)["loss"])


def test_alpha_0_uses_no_label():
    ends = []
    for labels in (Y, np.full_like(Y, -7), None):
        model = distiller(alpha=0.0, optimizer=keras.optimizers.SGD(0.1))
        logs = one_step(model, y=labels)
        ends.append((logs["loss"], weights(model.student)))
    bare = Distiller(student=net(), teacher=net(16, seed=1), alpha=0)
    bare.compile(keras.optimizers.SGD(0.1))
    ends.append((one_step(bare, y=None)["loss"], weights(bare.student)))
    for loss, values in ends[1:]:
        assert loss == ends[0][0]
        keras.tree.map_structure(np.testing.assert_array_equal, values, ends[0][1])


def test_missing_labels_are_refused():
    with pytest.raises(ValueError, match=r"There are no labels, and alpha is 0\.5: give y, or alpha=0"):
        one_step(distiller(), y=None)


def test_the_teacher_never_changes():
    between = [keras.layers.BatchNormalization(), keras.layers.GaussianNoise(1.0), keras.layers.Dropout(0.5)]
    teacher = net(16, seed=1, between=between)
    teacher.get_layer("hidden").trainable = False
    flags = [layer.trainable for layer in teacher.layers]
    before = weights(teacher)
    model = distiller(teacher=teacher, losses=[FeatureDistillation(teacher_layer="hidden", student_layer="hidden")])
    model.fit(X, Y, validation_data=(X, Y), epochs=2, verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, weights(teacher), before)
    assert [layer.trainable for layer in teacher.layers] == flags
    assert teacher.trainable
    of_teacher = set(map(id, teacher.variables))
    assert not any(id(each) in of_teacher for each in model.trainable_variables)


def test_the_teacher_runs_in_inference_mode():
    between = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    student, teacher = net(), net(16, seed=1, between=between)
    said = [to_numpy(model(X, training=False)) for model in (teacher, student)]
    logs = one_step(distiller(student, teacher))
    np.testing.assert_allclose(logs["distillation_loss"], divergence(*said, 2.0).mean(), rtol=1e-5)


class Noisy(keras.layers.Layer):
    """Draws numbers whether it is trained or not."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def test_the_seeds_of_a_noisy_teacher_stay():
    teacher = net(16, seed=1, between=[Noisy()])
    before = weights(teacher)
    distiller(teacher=teacher).fit(X, Y, epochs=2, verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, weights(teacher), before)


def test_evaluation_changes_nothing_and_is_the_students_own():
    student = net(between=[keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)], kernel_regularizer="l2")
    teacher = net(16, seed=1, between=[keras.layers.BatchNormalization()])
    hint = FeatureDistillation(teacher_layer="hidden", student_layer="hidden")
    model = distiller(student, teacher, losses=[LogitsDistillation(), hint], metrics=["accuracy"])
    model.fit(X, Y, verbose=0)
    before = weights(model)
    found = model.evaluate(X, Y, sample_weight=1.0 + Y, verbose=0, return_dict=True)
    keras.tree.map_structure(np.testing.assert_array_equal, weights(model), before)
    student.compile(loss=crossentropy(), metrics=["accuracy"])
    own = student.evaluate(X, Y, sample_weight=1.0 + Y, verbose=0, return_dict=True)
    assert set(found) == set(own) == {"loss", "accuracy"}
    assert found == pytest.approx(own, rel=1e-6)
    on_batch = model.test_on_batch(X, Y, return_dict=True)
    assert set(on_batch) == {"loss", "accuracy"}
    np.testing.assert_array_equal(model.predict(X, verbose=0), student.predict(X, verbose=0))


def test_sample_and_class_weights_count_in_both_losses():
    student, teacher = net(), net(16, seed=1)
    said = [to_numpy(model(X)) for model in (teacher, student)]
    parts = divergence(*said, 2.0), own_loss(said[1], Y)
    by_sample = random((48,), seed=5) ** 2
    by_class = {0: 0.5, 1: 2.0, 2: 0.0}
    for options, factors in (
        ({"sample_weight": by_sample}, by_sample),
        ({"class_weight": by_class}, np.array([by_class[each] for each in Y])),
    ):
        logs = one_step(distiller(net(), teacher), **options)
        np.testing.assert_allclose(logs["distillation_loss"], (factors * parts[0]).mean(), rtol=1e-5)
        np.testing.assert_allclose(logs["student_loss"], (factors * parts[1]).mean(), rtol=1e-5)


TOKENS = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 1, 2]])
TOKEN_LABELS = np.array([[0, 1, 2, 0], [1, 0, 0, 0], [2, 2, 1, 1]])


def tokens_net(width, seed):
    keras.utils.set_random_seed(seed)
    layers = keras.layers.Embedding(7, width, mask_zero=True), keras.layers.Dense(3)
    return keras.Sequential([keras.Input((4,), dtype="int32"), *layers])


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_masked_tokens_do_not_count(weighted):
    student, teacher = tokens_net(4, 0), tokens_net(8, 1)
    said = [to_numpy(model(TOKENS)) for model in (teacher, student)]
    mask = (TOKENS > 0).astype("float64")
    factors = random(TOKENS.shape, seed=2) ** 2 if weighted else np.ones(TOKENS.shape)
    before = factors.copy()
    model = distiller(student, teacher)
    logs = one_step(model, TOKENS, TOKEN_LABELS, **({"sample_weight": factors} if weighted else {}))
    for name, values in (
        ("distillation_loss", divergence(*said, 2.0)),
        ("student_loss", own_loss(said[1], TOKEN_LABELS)),
    ):
        np.testing.assert_allclose(logs[name], (values * mask * factors).sum() / mask.sum(), rtol=1e-4)
    np.testing.assert_array_equal(factors, before)


def test_an_ignored_label_is_left_to_the_teacher():
    student, teacher = net(), net(16, seed=1)
    said = [to_numpy(model(X)) for model in (teacher, student)]
    labels = np.where(np.arange(48) < 12, Y, -1)
    logs = one_step(distiller(student, teacher, loss=crossentropy(ignore_class=-1)), y=labels)
    np.testing.assert_allclose(logs["distillation_loss"], divergence(*said, 2.0).mean(), rtol=1e-5)
    np.testing.assert_allclose(logs["student_loss"], own_loss(said[1], Y)[:12].mean(), rtol=1e-4)


def two_heads(width, seed, named):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(width, "relu")(inputs)
    outputs = {"kind": keras.layers.Dense(3, name="kind")(hidden), "tags": keras.layers.Dense(2, name="tags")(hidden)}
    return keras.Model(inputs, outputs if named else list(outputs.values()))


@pytest.mark.parametrize("named", [True, False], ids=["dict", "list"])
def test_several_outputs_have_the_heads_of_their_losses(named):
    student, teacher = two_heads(4, 0, named), two_heads(9, 1, named)
    said = [[to_numpy(each) for each in keras.tree.flatten(model(X))] for model in (teacher, student)]
    pairs = [np.stack([tags, np.zeros_like(tags)], -1) for tags in (said[0][1], said[1][1])]
    expected = divergence(said[0][0], said[1][0], 2.0).mean() + divergence(*pairs, 2.0).mean()
    tags = (random((48, 2), seed=3) > 0).astype("float32")
    losses = {"kind": crossentropy(), "tags": keras.losses.BinaryCrossentropy(from_logits=True)}
    labels = {"kind": Y, "tags": tags}
    if not named:
        losses, labels = list(losses.values()), list(labels.values())
    logs = one_step(distiller(student, teacher, loss=losses), y=labels)
    np.testing.assert_allclose(logs["distillation_loss"], expected, rtol=1e-5)


def test_one_output_of_several():
    student, teacher = two_heads(4, 0, True), two_heads(9, 1, True)
    kinds, tags = ([to_numpy(model(X)[name]) for model in (teacher, student)] for name in ("kind", "tags"))
    expected = divergence(*kinds, 2.0).mean() + 0.5 * ((tags[0] - tags[1]) ** 2).mean()
    losses = [LogitsDistillation(output_name="kind"), OutputDistillation("mse", output_name="tags", weight=0.5)]
    model = distiller(student, teacher, losses=losses, loss={"kind": crossentropy(), "tags": "mse"})
    logs = one_step(model, y={"kind": Y, "tags": np.zeros((48, 2))})
    np.testing.assert_allclose(logs["distillation_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("classes", [1, 4])
def test_binary_and_multi_label_heads(classes):
    student, teacher = net(classes=classes), net(16, classes, seed=1)
    said = [to_numpy(model(X)) for model in (teacher, student)]
    pairs = [np.stack([each, np.zeros_like(each)], -1) for each in said]
    labels = (random((48, classes), seed=3) > 0).astype("float32")
    logs = one_step(distiller(student, teacher, loss=keras.losses.BinaryCrossentropy(from_logits=True)), y=labels)
    np.testing.assert_allclose(logs["distillation_loss"], divergence(*pairs, 2.0).mean(), rtol=1e-5)


def test_probabilities():
    student, teacher = net(activation="softmax"), net(16, seed=1, activation="softmax")
    said = [np.log(to_numpy(model(X)).astype("float64")) for model in (teacher, student)]
    model = distiller(student, teacher, from_logits=False, loss="sparse_categorical_crossentropy")
    np.testing.assert_allclose(one_step(model)["distillation_loss"], divergence(*said, 2.0).mean(), rtol=1e-5)


def test_losses_are_weighted_and_added():
    student, teacher = net(6), net(6, seed=1)
    layers = {"teacher_layer": "hidden", "student_layer": "hidden"}

    class Own(DistillationLoss):
        def call(self, student, teacher):
            return keras.ops.max(keras.ops.abs(student - teacher), axis=-1)

    losses = [
        LogitsDistillation(temperature=4.0, weight=0.5),
        LogitsDistillation(divergence="reverse_kl", temperature=1.0),
        FeatureDistillation(**layers, weight=3.0),
        Own(weight=2.0),
        "mae",
    ]
    said = [to_numpy(model(X)) for model in (teacher, student)]
    hidden = [to_numpy(model.get_layer("hidden")(X)) for model in (teacher, student)]
    expected = (
        0.5 * divergence(*said, 4.0).mean()
        + divergence(said[1], said[0], 1.0).mean()
        + 3 * ((hidden[0] - hidden[1]) ** 2).mean()
        + 2 * abs(said[0] - said[1]).max(-1).mean()
        + abs(said[0] - said[1]).mean()
    )
    logs = one_step(distiller(student, teacher, losses=losses))
    np.testing.assert_allclose(logs["distillation_loss"], expected, rtol=1e-5)


def test_a_loss_of_the_whole_batch_takes_no_weights():
    def whole(teacher, student):
        return keras.ops.mean(keras.ops.square(teacher - student))

    logs = one_step(distiller(losses=whole))
    assert np.isfinite(logs["distillation_loss"])
    with pytest.raises(ValueError, match="A loss that is one number for the whole batch takes no sample weights"):
        one_step(distiller(losses=whole), sample_weight=np.ones(48))


@pytest.mark.parametrize("shape", [(0,), (0, 3)], ids=["samples", "tokens"])
def test_a_replica_without_samples_has_no_loss(shape):
    values = keras.ops.zeros(shape, "float32")
    assert float(to_numpy(weighted_mean(values, keras.ops.ones(shape), None))) == 0
    assert float(to_numpy(weighted_mean(values, None, keras.ops.ones(shape, "bool")))) == 0


@keras.saving.register_keras_serializable("tests")
def cooling(step):
    return 4.0 - keras.ops.cast(step, "float32")


def test_alpha_and_temperature_may_be_schedules_of_the_step(tmp_path):
    alpha = keras.optimizers.schedules.PolynomialDecay(1.0, 2, 0.0)
    student, teacher = net(), net(16, seed=1)
    said = [to_numpy(model(X)) for model in (teacher, student)]
    own = own_loss(said[1], Y).mean()
    model = distiller(student, teacher, alpha=alpha, temperature=cooling, optimizer=keras.optimizers.SGD(0.0))
    for step in range(2):
        logs = one_step(model)
        distillation = divergence(*said, 4.0 - step).mean()
        np.testing.assert_allclose(logs["distillation_loss"], distillation, rtol=1e-5)
        share = 1 - step / 2
        np.testing.assert_allclose(logs["loss"], share * own + (1 - share) * distillation, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(one_step(loaded)["distillation_loss"], divergence(*said, 2.0).mean(), rtol=1e-5)


def test_a_teacher_of_another_modality_precision_and_size():
    student = net()
    with_policy = keras.Sequential(
        [keras.Input((4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, dtype="mixed_bfloat16")]
    )

    def inputs(x):
        return keras.ops.reshape(x[:, :8], (-1, 4, 2))[..., :1]

    said = [to_numpy(with_policy(to_numpy(inputs(X)))), to_numpy(student(X))]
    logs = one_step(distiller(student, with_policy, teacher_inputs=inputs))
    np.testing.assert_allclose(logs["distillation_loss"], divergence(*said, 2.0).mean(), rtol=1e-4)


def test_a_student_in_half_precision_learns_from_a_teacher_in_float32():
    student = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, dtype="mixed_float16")])
    student.dtype_policy = "mixed_float16"
    teacher = net(16, seed=1)
    model = distiller(student, teacher, optimizer=keras.optimizers.SGD(0.1))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    said = [to_numpy(each(X)) for each in (teacher, student)]
    logs = one_step(model)
    np.testing.assert_allclose(logs["distillation_loss"], divergence(*said, 2.0).mean(), rtol=5e-3)


class Counting(keras.layers.Layer):
    """Counts how often it is called, while the functions are traced or, on PyTorch, in every step."""

    calls = 0

    def call(self, x):
        type(self).calls += 1
        return x


def test_each_model_is_called_once_a_step():
    kinds = [type(name, (Counting,), {"calls": 0}) for name in ("OfStudent", "OfTeacher")]
    student, teacher = net(between=[kinds[0]()]), net(16, seed=1, between=[kinds[1]()])
    layers = {"teacher_layer": "hidden", "student_layer": "hidden"}
    model = distiller(student, teacher, losses=[LogitsDistillation(), FeatureDistillation(**layers)])
    model.fit(X, Y, batch_size=48, verbose=0)
    before = [kind.calls for kind in kinds]
    model.train_function = None  # traced anew where functions are
    model.fit(X, Y, batch_size=48, verbose=0)
    assert [kind.calls - count for kind, count in zip(kinds, before, strict=True)] == [1, 1]


def test_subclassed_models_and_layers_inside_of_others():
    inner = keras.Sequential([keras.layers.Dense(7, name="deep"), keras.layers.Activation("relu")], name="block")

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.block, self.last = inner, keras.layers.Dense(3)

        def call(self, x, training=None):
            return self.last(self.block(x, training=training))

    hint = FeatureDistillation(teacher_layer="block/deep", student_layer="hidden")
    model = distiller(Subclassed(), Outer(), losses=[hint], metrics=["accuracy"])
    history = model.fit(X, Y, epochs=8, verbose=0).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]
    assert hint.count_params() == 5 * 7 + 7
    assert model.student.count_params() == 8 * 5 + 5 + 5 * 3 + 3


def test_convolutional_features_and_attention():
    def images(width, seed):
        keras.utils.set_random_seed(seed)
        layers = keras.layers.Conv2D(width, 3, name="conv"), keras.layers.GlobalAveragePooling2D()
        return keras.Sequential([keras.Input((6, 6, 1)), *layers, keras.layers.Dense(3)])

    layers = {"teacher_layer": "conv", "student_layer": "conv"}
    losses = [AttentionTransfer(**layers, weight=10.0), FeatureDistillation(**layers)]
    model = distiller(images(2, 0), images(5, 1), losses=losses, optimizer=keras.optimizers.Adam(0.01))
    history = model.fit(random((48, 6, 6, 1)), Y, epochs=4, verbose=0, sample_weight=np.ones(48)).history
    assert history["distillation_loss"][-1] < history["distillation_loss"][0]


def test_saved_and_loaded(tmp_path):
    hint = FeatureDistillation(teacher_layer="hidden", student_layer="hidden", weight=0.5)
    model = distiller(losses=[LogitsDistillation(temperature=3.0), hint], optimizer="adam", metrics=["accuracy"])
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "distiller.keras")
    loaded = keras.saving.load_model(tmp_path / "distiller.keras")
    keras.tree.map_structure(np.testing.assert_array_equal, weights(loaded), weights(model))
    logs = [one_step(each) for each in (model, loaded)]
    assert logs[0] == pytest.approx(logs[1], rel=1e-6)
    keras.tree.map_structure(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), weights(loaded), weights(model)
    )
    model.student.save(tmp_path / "student.keras")
    alone = keras.saving.load_model(tmp_path / "student.keras")
    assert alone.count_params() == model.student.count_params()
    np.testing.assert_array_equal(to_numpy(alone(X)), to_numpy(model(X)))


def test_models_that_tell_their_inputs_make_a_distiller_that_is_built(tmp_path):
    model = distiller()
    assert model.count_params() == model.student.count_params() + model.teacher.count_params() + 1
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_numpy(loaded(X)), to_numpy(model(X)))


@pytest.mark.parametrize("what", ["teacher", "alpha"])
def test_a_function_that_cannot_be_found_again_is_not_saved(tmp_path, what):
    options = {"teacher": lambda x: keras.ops.zeros((keras.ops.shape(x)[0], 3))} if what == "teacher" else {}
    model = distiller(**options | ({} if what == "teacher" else {"alpha": lambda step: 0.5}))
    model.fit(X, Y, verbose=0)
    with pytest.raises(TypeError, match=r"cannot be saved: define it with a name and @keras\.saving\.register"):
        model.save(tmp_path / "model.keras")


def test_the_callbacks_work_on_it():
    model = distiller(optimizer=keras.optimizers.AdamW(0.01, global_clipnorm=1.0), metrics=["accuracy"])
    callbacks = [GradientNormLogger(per_variable=False), WarmupCosine(warmup=0.2), TerminateOnNaN()]
    history = model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=callbacks).history
    assert {"grad_norm", "learning_rate", "distillation_loss", "student_loss"} <= set(history)
    assert np.isfinite(history["loss"]).all()
    assert not locate_nonfinite(model, X, Y).found


@pytest.mark.parametrize("where", ["epoch", "batch"])
def test_a_run_goes_on_with_the_same_bits(tmp_path, where):
    class Crash(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if armed and (self.epoch, batch) == ((1, 0) if where == "epoch" else (1, 2)):
                raise ZeroDivisionError

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    def train(folder):
        keras.utils.set_random_seed(0)
        between = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
        hint = FeatureDistillation(teacher_layer="hidden", student_layer="hidden")
        alpha = keras.optimizers.schedules.CosineDecay(0.9, 9)
        model = distiller(
            net(between=between),
            losses=[LogitsDistillation(), hint],
            alpha=alpha,
            optimizer="adam",
            metrics=["accuracy"],
        )
        batches = ArrayBatches(X, Y, batch_size=16, seed=3)
        Run(folder, every_steps=1).fit(model, batches, epochs=3, callbacks=[Crash()], verbose=0)
        return model

    armed = False
    whole = train(tmp_path / "whole")
    armed = True
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut")
    armed = False
    resumed = train(tmp_path / "cut")
    keras.tree.map_structure(np.testing.assert_array_equal, weights(resumed), weights(whole))


def test_a_run_is_one_of_its_teacher(tmp_path):
    def train(teacher):
        Run(tmp_path).fit(distiller(teacher=teacher), ArrayBatches(X, Y, batch_size=16), epochs=1, verbose=0)

    train(net(16, seed=1))
    train(net(16, seed=1))
    with pytest.raises(ValueError, match=r"holds a run of something else: model\.teacher: .* there, .* here"):
        train(net(16, seed=2))


def test_checkpoints_are_without_the_teacher(tmp_path):
    model = distiller(teacher=net(4000, seed=1))
    Run(tmp_path).fit(model, ArrayBatches(X, Y, batch_size=16), epochs=1, verbose=0)
    files = list((tmp_path / "checkpoints").glob("*.safetensors"))
    assert files
    assert max(file.stat().st_size for file in files) < 4 * 4000


ENDS = "ends in softmax: it returns probabilities. Take that activation away"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"alpha must lie in 0 <= alpha <= 1; got 1\.5"),
        ({"alpha": "half"}, "alpha must be a finite number; got 'half'"),
        ({"alpha": lambda step: "half"}, "alpha must be a number or a schedule, a function of the step; .* is none"),
        ({"alpha": lambda step: 2.0}, "alpha must lie in 0 <= alpha <= 1"),
        ({"temperature": 0}, r"temperature must be above 0; got 0"),
        ({"temperature": 2.0, "losses": [LogitsDistillation()]}, r"With losses the temperature is theirs"),
        ({"losses": []}, "losses must hold at least one"),
        ({"losses": ["no such loss"]}, "loss must be the name of a loss of Keras, a loss object or a function"),
        ({"student": lambda x: x}, "student must be a Keras model"),
        ({"teacher": "teacher"}, "teacher must be a Keras model, several in a list"),
        ({"teacher": net(classes=5)}, r"The student has 3 classes and the teacher 5"),
        ({"teacher": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])}, "give teacher_inputs"),
        ({"teacher_inputs": 3}, "teacher_inputs must be a function; got 3"),
        ({"student": net(activation="softmax")}, f"The student .* {ENDS}"),
        ({"teacher": net(activation="softmax")}, f"The teacher .* {ENDS}"),
        ({"from_logits": False}, "ends in a linear layer: it returns logits"),
        ({"losses": FeatureDistillation(teacher_layer="no", student_layer="hidden")}, "teacher .* has no layer 'no'"),
        ({"losses": FeatureDistillation(teacher_layer="hidden", student_layer="no")}, "student .* has no layer 'no'"),
        ({"losses": LogitsDistillation(output_name="mask")}, "The student has no output 'mask'"),
    ],
    ids=lambda value: None,
)
def test_bad_arguments_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        Distiller(**{"student": net(), "teacher": net(16, seed=1)} | options)


def test_a_model_is_not_its_own_teacher():
    model = net()
    with pytest.raises(ValueError, match="student and teacher are the same model"):
        Distiller(student=model, teacher=model)
    shared = keras.Sequential([keras.Input((8,)), model.layers[0], keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="share variables, which training would change"):
        Distiller(student=model, teacher=shared)
    born_again = keras.models.clone_model(model)
    one_step(distiller(born_again, model))


def test_compile_refuses_a_loss_that_does_not_fit():
    model = distiller(compiled=False)
    with pytest.raises(ValueError, match=r"The student's own loss is missing: give compile\(loss=\.\.\.\), or alpha=0"):
        model.compile("sgd")
    with pytest.raises(ValueError, match="takes probabilities, but with from_logits=True the models return logits"):
        model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="is of numbers, which have no softmax to be tempered"):
        model.compile("sgd", "mse")


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("given", ["arrays", "batches", "generator", "train_on_batch"])
def test_probabilities_of_subclassed_models_are_seen_at_the_first_batch(who, given):
    models = {"student": net(), "teacher": net(16, seed=1)} | {who: Subclassed(activation="softmax")}
    model = distiller(**models)
    fits = {
        "arrays": lambda: model.fit(X, Y, verbose=0),
        "batches": lambda: model.fit(ArrayBatches(X, Y, batch_size=16), verbose=0),
        "generator": lambda: model.fit(((X, Y) for _ in range(3)), shuffle=False, verbose=0),
        "train_on_batch": lambda: model.train_on_batch(X, Y),
    }
    with pytest.raises(ValueError, match=f"The {who}'s outputs on the first batch are probabilities, not logits"):
        fits[given]()


def test_a_generator_loses_no_batch_by_being_looked_at():
    seen = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

    model = distiller(Subclassed())
    model.fit(((X[i::3], Y[i::3]) for i in range(3)), steps_per_epoch=3, shuffle=False, verbose=0, callbacks=[Count()])
    assert seen == [0, 1, 2]


def test_logits_of_subclassed_models_are_not_probabilities():
    model = distiller(
        Subclassed(activation="softmax"),
        net(16, seed=1, activation="softmax"),
        from_logits=False,
        loss="sparse_categorical_crossentropy",
    )
    one_step(model)
    model = distiller(
        Subclassed(), net(16, seed=1, activation="softmax"), from_logits=False, loss="sparse_categorical_crossentropy"
    )
    with pytest.raises(ValueError, match="The student's outputs on the first batch are no probabilities"):
        one_step(model)


def test_another_number_of_classes_is_seen_at_the_first_batch_of_subclassed_models():
    with pytest.raises(ValueError, match="The student has 4 classes and the teacher 3"):
        one_step(distiller(Subclassed(4)))


def test_probabilities_of_a_function_are_seen_at_the_first_batch():
    model = distiller(teacher=lambda x: keras.ops.softmax(x[:, :3]))
    with pytest.raises(ValueError, match="The teacher's outputs on the first batch are probabilities, not logits"):
        model.fit(X, Y, verbose=0)


def test_a_linear_activation_hides_no_softmax():
    hidden = net(activation="softmax")
    model = keras.Sequential([keras.Input((8,)), *hidden.layers, keras.layers.Activation("linear", dtype="float32")])
    with pytest.raises(ValueError, match=ENDS):
        distiller(student=model)


def test_logits_that_begin_as_zeros_are_no_probabilities():
    student, teacher = (Subclassed(1) for _ in range(2))
    student.last.kernel_initializer = "zeros"
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    assert np.isfinite(one_step(distiller(student, teacher, loss=loss), y=Y[:, None] % 2.0)["loss"])


class LateLayers(keras.Model):
    """A model whose layers are made when it is built."""

    def build(self, shape):
        self.hidden = keras.layers.Dense(5, "tanh", name="hidden")
        self.last = keras.layers.Dense(3, name="logits")
        self.hidden.build(shape)
        self.last.build((None, 5))

    def call(self, x):
        return self.last(self.hidden(x))


def test_layers_that_are_made_late_are_found():
    losses = [LogitsDistillation(), FeatureDistillation(teacher_layer="hidden", student_layer="hidden")]
    assert np.isfinite(one_step(distiller(Subclassed(), LateLayers(), losses=losses))["distillation_loss"])


def named_outputs(*names):
    inputs = keras.Input((8,))
    return keras.Model(inputs, {name: keras.layers.Dense(3, name=name)(inputs) for name in names})


def test_outputs_of_other_names_are_not_paired():
    with pytest.raises(ValueError, match=r"must name their outputs alike.*'left', 'right'.*'down', 'up'"):
        distiller(named_outputs("left", "right"), named_outputs("down", "up"), compiled=False)


class Correlation(DistillationLoss):
    """A loss of one's own, of outputs of unequal widths."""

    def build(self, student_shape, teacher_shape):
        self.kernel = self.add_weight(shape=(student_shape[-1], teacher_shape[-1]), name="kernel")
        super().build(student_shape, teacher_shape)

    def call(self, student, teacher):
        return keras.ops.mean(keras.ops.square(student @ self.kernel - teacher), axis=-1)


def test_a_loss_of_ones_own_may_join_outputs_of_unequal_widths():
    model = distiller(net(), net(16, classes=5, seed=1), losses=Correlation())
    assert model.distillation_losses[0].kernel.shape == (3, 5)
    assert np.isfinite(one_step(model)["distillation_loss"])


def two_outputs(width, names=("z", "a")):
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(width, "tanh")(inputs)
    return keras.Model(inputs, [keras.layers.Dense(3, name=name)(hidden) for name in names])


def test_outputs_in_a_list_take_losses_labels_and_metrics_by_their_names():
    model = Distiller(student=two_outputs(5), teacher=two_outputs(7))
    losses = {"z": crossentropy(), "a": crossentropy()}
    model.compile("sgd", losses, metrics={"z": ["accuracy"], "a": ["accuracy"]})
    history = model.fit(X, {"z": Y, "a": Y}, verbose=0).history
    assert {"z_accuracy", "a_accuracy", "z_loss", "a_loss"} <= set(history)


def test_outputs_in_a_list_are_not_paired_in_another_order():
    with pytest.raises(ValueError, match=r"student's outputs are .*'z', 'a'.*, the teacher's .*'a', 'z'"):
        Distiller(student=two_outputs(5), teacher=two_outputs(7, ("a", "z")))


def test_inputs_are_found_by_their_names():
    def model(order):
        inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((5,), name="b")}
        joined = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
        given = [inputs[name] for name in order] if isinstance(order, list) else inputs
        return keras.Model(given, keras.layers.Dense(3)(joined))

    taught = Distiller(student=model("as a dict"), teacher=model(["b", "a"]))
    taught.compile("sgd", crossentropy())
    taught.fit({"a": random((48, 3)), "b": random((48, 5))}, Y, verbose=0)


@pytest.mark.skipif(BACKEND != "torch", reason="A module of PyTorch is a teacher on PyTorch only.")
def test_a_module_of_pytorch_stays_in_inference_mode_and_as_it_was():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    expected = module.eval()(torch.from_numpy(X)).detach().numpy()
    module.train()
    model = Distiller(student=net(), teacher=module, alpha=0.0)
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(X, batch_size=len(X), verbose=0)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    assert all(not name.startswith("1.") for name, _ in model.named_parameters())
    wanted = divergence(expected, to_numpy(net()(X)), 2.0).mean()
    assert history.history["loss"][0] == pytest.approx(wanted, rel=1e-4)


def test_distillers_that_share_an_ensemble_keep_their_heads():
    ensemble = TeacherEnsemble([net(seed=1), net(seed=2)])

    def loss_of(taught):
        return taught.fit(X, batch_size=len(X), verbose=0).history["loss"][0]

    first = Distiller(student=net(), teacher=ensemble, alpha=0.0)
    first.compile(keras.optimizers.SGD(0.0), crossentropy())
    before = loss_of(first)
    second = Distiller(student=net(), teacher=ensemble, alpha=0.0)
    second.compile(keras.optimizers.SGD(0.0), keras.losses.BinaryCrossentropy(from_logits=True))
    assert loss_of(second) != pytest.approx(before, rel=1e-2)
    first.make_train_function(force=True)
    assert loss_of(first) == pytest.approx(before, rel=1e-6)


def test_logits_of_one_class_may_lie_between_0_and_1():
    class Constant(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(0.5))

        def call(self, x):
            return self.last(x * 0)

    model = Distiller(student=Constant(), teacher=Constant())
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(X, Y % 2, verbose=0)


def test_weights_of_positions_do_not_reach_layers_with_other_positions():
    def model(width):
        inputs = keras.Input((8, 4))
        h = keras.layers.Conv1D(width, 3, strides=2, padding="same", name="conv")(inputs)
        return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.UpSampling1D(2)(h)))

    x, weights = random((6, 8, 4)), np.ones((6, 8), "float32")
    weights[:3] = 0
    hint = FeatureDistillation(teacher_layer="conv", student_layer="conv", projection=False)
    taught = Distiller(student=model(4), teacher=model(4), losses=[hint])
    taught.compile(keras.optimizers.SGD(0.0), crossentropy())
    found = taught.fit(x, np.zeros((6, 8), int), sample_weight=weights, batch_size=6, verbose=0).history
    features = [keras.Model(each.input, each.get_layer("conv").output) for each in (taught.student, taught.teacher)]
    squares = (to_numpy(features[0](x)) - to_numpy(features[1](x))) ** 2
    assert found["distillation_loss"][0] == pytest.approx(squares[3:].mean() / 2, rel=1e-4)


def test_a_data_set_is_not_drawn_from_before_the_fit():
    class Drawn(keras.utils.PyDataset):
        calls = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.calls += 1
            return X[index::3], Y[index::3]

    plain, taught = Drawn(), Drawn()
    student = net()
    student.compile("sgd", crossentropy())
    student.fit(plain, verbose=0)
    one = distiller()
    one.fit(taught, verbose=0)
    assert taught.calls == plain.calls


def test_layers_with_several_outputs_are_refused():
    def model(width):
        inputs = keras.Input((5, 4))
        states = keras.layers.LSTM(width, return_sequences=True, return_state=True, name="lstm")(inputs)
        return keras.Model(inputs, keras.layers.Dense(3)(states[0]))

    hint = FeatureDistillation(teacher_layer="lstm", student_layer="lstm")
    with pytest.raises(ValueError, match="Layer 'lstm' of the student returns several tensors"):
        Distiller(student=model(4), teacher=model(6), losses=[hint])
