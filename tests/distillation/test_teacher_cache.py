import keras
import numpy as np
import pytest
from arrays import random, to_numpy
from distillation import X, Y, crossentropy, net, weights

from kerasblocks.data import ArrayBatches
from kerasblocks.distillation import Distiller, FeatureDistillation, TeacherCache
from kerasblocks.training import Run


def batches(x=X, **options):
    return ArrayBatches(x, Y, batch_size=20, seed=3, **options)


def teacher():
    return net(16, seed=1, between=[keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])


def trained(of, data, epochs=3):
    model = Distiller(student=net(), teacher=of, temperature=3.0)
    model.compile(keras.optimizers.Adam(0.01), crossentropy())
    history = model.fit(data, epochs=epochs, verbose=0).history
    return history, weights(model.student)


def test_fitting_from_the_cache_is_fitting_from_the_teacher(tmp_path):
    model = teacher()
    before = weights(model)
    direct, student = trained(model, batches())
    for dtype, tolerance in (("float32", 1e-5), ("float16", 2e-3)):
        cache = TeacherCache.write(model, batches(), tmp_path / dtype, dtype)
        assert cache.outputs.dtype == dtype
        np.testing.assert_allclose(cache.outputs, to_numpy(model(X)), rtol=tolerance, atol=tolerance)
        stored, other = trained(cache, cache.join(batches()))
        assert stored["loss"] == pytest.approx(direct["loss"], rel=tolerance)
        for one, two in zip(student, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=10 * tolerance, atol=tolerance)
    keras.tree.map_structure(np.testing.assert_array_equal, weights(model), before)


def test_the_order_and_the_size_of_batches_do_not_matter(tmp_path):
    model = teacher()
    cache = TeacherCache.write(model, batches(), tmp_path / "cache", "float32")
    joined = cache.join(ArrayBatches(X, Y, batch_size=7, seed=11))
    for epoch in range(2):
        for x, y in joined.iterate(epoch):
            inputs, said = x["inputs"], next(value for name, value in x.items() if name != "inputs")
            np.testing.assert_allclose(said, to_numpy(model(inputs)), rtol=1e-4, atol=1e-5)
            assert len(y) == len(inputs)


def test_the_teacher_may_be_given_with_its_outputs(tmp_path):
    model = teacher()
    cache = TeacherCache.write(model, batches(), tmp_path / "cache", "float32")
    assert trained(model, cache.join(batches()))[0] == trained(cache, cache.join(batches()))[0]


def test_another_teacher_is_refused(tmp_path):
    model = teacher()
    cache = TeacherCache.write(model, batches(), tmp_path / "cache")
    with pytest.raises(ValueError, match="carry the outputs of another teacher than the Distiller's"):
        trained(net(16, seed=2), cache.join(batches()))
    other = TeacherCache.write(net(16, seed=2), batches(), tmp_path / "other")
    with pytest.raises(ValueError, match="carry the outputs of another teacher"):
        trained(other, cache.join(batches()))
    with pytest.raises(ValueError, match="has the outputs of another teacher; choose another folder"):
        TeacherCache.write(net(16, seed=2), batches(), tmp_path / "cache")


def test_other_data_are_refused(tmp_path):
    model = teacher()
    cache = TeacherCache.write(model, batches(), tmp_path / "cache")
    changed = X.copy()
    changed[7, 3] += 1
    for x in (changed, X[::-1].copy()):
        with pytest.raises(ValueError, match="the outputs are those of other data"):
            cache.join(batches(x))
    with pytest.raises(ValueError, match=r"other data \(48 samples there, 40 here\)"):
        cache.join(ArrayBatches(X[:40], batch_size=4))
    with pytest.raises(ValueError, match="has the outputs of another data"):
        TeacherCache.write(model, batches(changed), tmp_path / "cache")


def test_what_is_there_is_kept(tmp_path):
    model = teacher()
    TeacherCache.write(model, batches(), tmp_path / "cache")
    before = (tmp_path / "cache" / "outputs-0.bin").stat().st_mtime_ns
    again = TeacherCache.write(model, ArrayBatches(X, batch_size=5), tmp_path / "cache")
    assert again.num_samples == 48
    assert (tmp_path / "cache" / "outputs-0.bin").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="has the outputs of another dtype"):
        TeacherCache.write(model, batches(), tmp_path / "cache", "float32")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError, match="is there and is no cache of a teacher"):
        TeacherCache.write(model, batches(), tmp_path / "folder")


def test_random_augmentation_is_refused(tmp_path):
    class Augmented(ArrayBatches):
        def batch(self, epoch, index):
            x, y = super().batch(epoch, index)
            return x + random(x.shape, seed=epoch), y

    augmented = Augmented(X, Y, batch_size=8)
    with pytest.raises(TypeError, match="makes batches of its own, by random augmentation for instance"):
        TeacherCache.write(teacher(), augmented, tmp_path / "cache")
    cache = TeacherCache.write(teacher(), batches(), tmp_path / "cache")
    with pytest.raises(TypeError, match="makes batches of its own"):
        cache.join(augmented)
    with pytest.raises(TypeError, match=r"are joined to kerasblocks\.data\.ArrayBatches"):
        cache.join([(X, Y)])


def test_batches_without_outputs_are_refused_and_evaluation_needs_none(tmp_path):
    cache = TeacherCache.write(teacher(), batches(), tmp_path / "cache")
    with pytest.raises(ValueError, match=r"these batches do not carry them: fit cache\.join\(batches\)"):
        trained(cache, batches())
    model = Distiller(student=net(), teacher=cache)
    model.compile("sgd", crossentropy())
    plain = model.evaluate(X, Y, verbose=0)
    joined = model.evaluate(cache.join(batches()), verbose=0)
    assert joined == pytest.approx(plain, rel=1e-5)
    with pytest.raises(ValueError, match="The teacher is stored outputs, of which there are no layers"):
        Distiller(student=net(), teacher=cache, losses=FeatureDistillation(teacher_layer="a", student_layer="hidden"))
    with pytest.raises(ValueError, match="The student has 5 classes and the teacher 3"):
        Distiller(student=net(classes=5), teacher=cache)


def test_several_outputs_several_inputs_and_images(tmp_path):
    inputs = {name: keras.Input(shape, name=name) for name, shape in (("image", (4, 4, 1)), ("number", (1,)))}
    flat = keras.layers.Concatenate()([keras.layers.Flatten()(inputs["image"]), inputs["number"]])
    outputs = {"b": keras.layers.Dense(2)(flat), "a": keras.layers.Dense(3)(flat)}
    model = keras.Model(inputs, outputs)
    images = np.random.default_rng(0).integers(0, 255, (48, 4, 4, 1), "uint8")
    x = {"image": images, "number": random((48, 1))}
    data = ArrayBatches(x, {"a": Y, "b": Y % 2}, batch_size=10)
    cache = TeacherCache.write(model, data, tmp_path / "cache", "float32")
    expected = model({"image": images.astype("float32") / 255, "number": x["number"]})
    for name in ("a", "b"):
        np.testing.assert_allclose(cache.outputs[name], to_numpy(expected[name]), rtol=1e-4, atol=1e-5)
    student = keras.models.clone_model(model)
    distiller = Distiller(student=student, teacher=cache, alpha=0.5)
    distiller.compile("adam", {"a": crossentropy(), "b": crossentropy()})
    assert np.isfinite(distiller.fit(cache.join(data), verbose=0).history["loss"]).all()


def test_functions_and_other_inputs(tmp_path):
    def function(x):
        return keras.ops.concatenate([x, -x], axis=-1)

    cache = TeacherCache.write(function, batches(), tmp_path / "cache", "float64", teacher_inputs=lambda x: x[:, :2])
    np.testing.assert_allclose(cache.outputs, np.concatenate([X[:, :2], -X[:, :2]], 1), rtol=1e-6)


def test_a_run_resumes_from_a_cache(tmp_path):
    cache = TeacherCache.write(teacher(), batches(), tmp_path / "cache")

    def run(epochs):
        model = Distiller(student=net(), teacher=cache)
        model.compile("adam", crossentropy())
        Run(tmp_path / "run").fit(model, cache.join(batches()), epochs=epochs, verbose=0)
        return weights(model.student)

    run(1)
    resumed = run(2)
    whole, _ = trained_by_adam(cache)
    keras.tree.map_structure(np.testing.assert_array_equal, resumed, whole)


def trained_by_adam(cache):
    model = Distiller(student=net(), teacher=cache)
    model.compile("adam", crossentropy())
    history = model.fit(cache.join(batches()), epochs=2, verbose=0)
    return weights(model.student), history


def test_damaged_and_missing_caches_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no cache of a teacher; TeacherCache\.write makes one"):
        TeacherCache(tmp_path / "nowhere")
    TeacherCache.write(teacher(), batches(), tmp_path / "cache")
    outputs = tmp_path / "cache" / "outputs-0.bin"
    outputs.write_bytes(outputs.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"not a whole cache of a teacher: outputs-0\.bin has 287 bytes instead of 288"
    ):
        TeacherCache(tmp_path / "cache")
    (tmp_path / "cache" / "cache.json").write_text("{}")
    with pytest.raises(ValueError, match="not a whole cache of a teacher"):
        TeacherCache(tmp_path / "cache")


def test_outputs_that_cannot_be_stored_leave_nothing(tmp_path):
    with pytest.raises(
        ValueError, match=r"The teacher's outputs reach 1e\+06, too large for float16: use dtype='float32'"
    ):
        TeacherCache.write(lambda x: x * 0 + 1e6, batches(), tmp_path / "cache")
    with pytest.raises(ValueError, match="The teacher's outputs are not all finite"):
        TeacherCache.write(lambda x: x * np.nan, batches(), tmp_path / "cache")
    with pytest.raises(ValueError, match="dtype must be one of 'float16', 'float32', 'float64'; got 'int8'"):
        TeacherCache.write(lambda x: x, batches(), tmp_path / "cache", "int8")
    assert not list(tmp_path.iterdir())


def test_a_teacher_that_changed_between_two_fits_is_refused_in_the_second(tmp_path):
    model = teacher()
    joined = TeacherCache.write(model, batches(), tmp_path / "cache").join(batches())
    distiller = Distiller(student=net(), teacher=model)
    distiller.compile("sgd", crossentropy())
    distiller.fit(joined, verbose=0)
    model.layers[0].bias.assign(np.ones(16))
    with pytest.raises(ValueError, match="or of the same before its weights changed"):
        distiller.fit(joined, verbose=0)


def test_stored_probabilities_are_no_logits(tmp_path):
    cache = TeacherCache.write(net(16, activation="softmax"), batches(), tmp_path / "cache")
    with pytest.raises(ValueError, match="The teacher's outputs on the first batch are probabilities, not logits"):
        trained(cache, cache.join(batches()))


def tripled(x):
    return 3.0 * x


def test_the_function_that_makes_the_inputs_is_known_again(tmp_path):
    model = teacher()
    cache = TeacherCache.write(model, batches(), tmp_path / "cache", "float32", teacher_inputs=tripled)
    np.testing.assert_allclose(cache.outputs, to_numpy(model(3 * X)), rtol=1e-4, atol=1e-5)
    again = TeacherCache.write(model, batches(), tmp_path / "cache", "float32", teacher_inputs=tripled)
    np.testing.assert_array_equal(again.outputs, cache.outputs)
    with pytest.raises(ValueError, match="has the outputs of another inputs"):
        TeacherCache.write(model, batches(), tmp_path / "cache", "float32")
    with pytest.raises(ValueError, match=r"give teacher_inputs to TeacherCache\.write"):
        Distiller(student=net(), teacher=cache, teacher_inputs=tripled)


def test_a_teacher_with_the_same_weights_that_computes_something_else_is_another(tmp_path):
    batches = ArrayBatches(X, Y, batch_size=16)
    teacher = net(activation="softmax")
    TeacherCache.write(teacher, batches, tmp_path / "cache")
    other = net()
    other.set_weights(teacher.get_weights())
    with pytest.raises(ValueError, match="has the outputs of another teacher"):
        TeacherCache.write(other, batches, tmp_path / "cache")
    teacher.trainable = False
    TeacherCache.write(teacher, batches, tmp_path / "cache")  # The same, though its layers have other names by now.


def test_functions_are_told_apart_by_their_code_and_the_models_in_it(tmp_path):
    batches = ArrayBatches(X, Y, batch_size=16)
    one, other = net(), net(seed=1)

    def asked(teacher):
        return lambda x: teacher(x)

    TeacherCache.write(asked(one), batches, tmp_path / "cache")
    TeacherCache.write(asked(one), batches, tmp_path / "cache")
    for function in (asked(other), lambda x: one(x), lambda x: 2 * one(x), lambda x, model=other: model(x)):
        with pytest.raises(ValueError, match="has the outputs of another teacher"):
            TeacherCache.write(function, batches, tmp_path / "cache")
