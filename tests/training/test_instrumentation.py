import copy
import gc
import pickle
import threading

import keras
import numpy as np
import pytest
from arrays import to_numpy
from fits import BATCH, X, Y, small_model

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.training import global_gradient_norm, step_instrumentation

BACKEND = keras.backend.backend()


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_is_not_collected():
    """Spares `gc.collect()` what the tests before these have left, which takes it a minute to look through."""
    gc.freeze()


def fit(model, *callbacks, **options):
    options = {"epochs": 2, "batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(X, Y, callbacks=list(callbacks), **options)


class Ask(keras.callbacks.Callback):
    def __init__(self, **statistics):
        super().__init__()
        self.statistics, self.rows = statistics, []

    def on_train_begin(self, logs=None):
        self.step = step_instrumentation(self.model)
        for name, function in self.statistics.items():
            self.step.add_statistic(name, function)
        self.step.add_listener(self.rows.extend)

    def on_epoch_end(self, epoch, logs=None):
        self.step.flush()

    def on_train_end(self, logs=None):
        self.step.end()


class Raiser(keras.callbacks.Callback):
    def __init__(self, hook):
        super().__init__()
        setattr(self, hook, self.raise_it)

    def raise_it(self, *args, **kwargs):
        raise RuntimeError("boom")


def largest(gradients, variables):
    return keras.ops.max(keras.ops.stack([keras.ops.max(keras.ops.abs(each)) for each in gradients]))


def weight_sum(gradients, variables):
    return sum(keras.ops.sum(each) for each in variables)


def attributes(model):
    """Returns what lies on the model and its optimizer, but what Keras itself puts there in a fit."""
    return {
        name: value
        for owner in (model, model.optimizer)
        for name, value in vars(owner).items()
        if callable(value) or "kerasblocks" in name
    }


def test_statistics_of_a_user_join_the_logs():
    model = small_model()
    weights = [sum(each.sum() for each in model.get_weights())]
    ask = Ask(largest=largest, weight_sum=weight_sum)
    history = fit(model, ask, epochs=1).history
    assert [row["step"] for row in ask.rows] == [0, 1, 2]
    assert ask.rows[0]["weight_sum"] == pytest.approx(weights[0], rel=1e-4)
    assert history["largest"] == [pytest.approx(np.mean([row["largest"] for row in ask.rows]), rel=1e-6)]
    assert all(row["largest"] > 0 for row in ask.rows)


def test_one_name_is_one_computation():
    calls = []

    def counted(gradients, variables):
        calls.append(1)
        return global_gradient_norm(gradients, variables)

    fit(small_model(run_eagerly=True), Ask(norm=counted), Ask(norm=counted), epochs=1)
    assert len(calls) == len(X) // BATCH
    with pytest.raises(ValueError, match="'norm' is asked for with two functions"):
        fit(small_model(), Ask(norm=counted), Ask(norm=largest))


def test_the_norm_of_two_callbacks_is_computed_once_and_both_get_every_row():
    first, second = GradientNormLogger(), GradientNormLogger(per_variable=False)
    fit(small_model(), first, second)
    assert first.history["grad_norm"] == second.history["grad_norm"]


def test_nothing_is_left_on_the_model_and_its_compiled_step_is_put_back():
    model = small_model()
    fit(model)
    before, plain = attributes(model), model.train_function
    fit(model, GradientNormLogger(), WarmupCosine())
    assert model.train_function is plain
    assert attributes(model) == before
    history = fit(model).history
    assert set(history) == {"loss"}


def test_training_is_what_it_is_without_it():
    plain, watched = small_model(), small_model()
    fit(plain, validation_data=(X, Y))
    fit(watched, GradientNormLogger(), validation_data=(X, Y))
    for one, other in zip(watched.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    for one, other in zip(watched.optimizer.variables, plain.optimizer.variables, strict=True):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_epoch_end", "on_epoch_begin", "on_test_begin"])
@pytest.mark.parametrize(
    "use",
    [
        lambda model, path: model.fit(X, Y, verbose=0),
        lambda model, path: model.train_on_batch(X, Y),
        lambda model, path: model.compile("sgd", "mse"),
        lambda model, path: model.save(path / "model.keras"),
        lambda model, path: keras.models.clone_model(model),
    ],
    ids=["fit", "train_on_batch", "compile", "save", "clone"],
)
def test_what_a_fit_that_raised_has_left_is_gone_by_the_next_use(hook, use, tmp_path):
    model = small_model()
    before = attributes(model)
    with pytest.raises(RuntimeError, match="boom"):
        fit(model, GradientNormLogger(), WarmupCosine(peak_learning_rate=5.0), Raiser(hook), validation_data=(X, Y))
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.1)
    optimizer = model.optimizer
    gc.collect()  # clone_model asks the model for nothing: there what is left goes with the frames of the fit
    use(model, tmp_path)
    assert "train_step" not in vars(model)
    assert "apply" not in vars(optimizer)
    assert {name for name in attributes(model) if not name.endswith("_function")} <= set(before)


def test_an_error_in_the_step_leaves_nothing():
    class Bad(keras.layers.Layer):
        def call(self, inputs):
            raise RuntimeError("boom in a layer")

    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile("sgd", loss=lambda y, p: Bad()(p))
    with pytest.raises(RuntimeError, match="boom in a layer"):
        model.fit(X, Y, verbose=0, callbacks=[GradientNormLogger()])
    assert "train_step" not in vars(model)


def test_a_model_saved_in_the_middle_of_a_fit_loads_and_the_fit_goes_on(tmp_path):
    model, norms, path = small_model(optimizer=keras.optimizers.AdamW(0.01)), GradientNormLogger(), tmp_path / "m.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(str(path))
    copies = []
    copying = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: copies.append((copy.deepcopy(model), pickle.dumps(model)))
    )
    fit(model, norms, WarmupCosine(), checkpoint, copying)
    assert len(norms.history["grad_norm"]) == 6
    loaded = keras.saving.load_model(path)
    variables = zip(
        [*loaded.variables, *loaded.optimizer.variables], [*model.variables, *model.optimizer.variables], strict=True
    )
    for one, other in variables:
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    assert "train_step" not in vars(copies[0][0])


def test_a_fit_that_asks_the_same_is_not_compiled_again():
    traced = []

    def counted(gradients, variables):
        traced.append(1)
        return largest(gradients, variables)

    model = small_model(jit_compile=BACKEND != "torch")
    fit(model, Ask(counted=counted), WarmupCosine())
    first = len(traced)
    fit(model, Ask(counted=counted), WarmupCosine())
    if BACKEND == "torch":
        assert len(traced) == 2 * first == 12  # an eager step computes it each time
    else:
        assert len(traced) == first
    fit(model, Ask(counted=counted))
    assert len(traced) > first
    model.compile("sgd", "mse")
    before = len(traced)
    fit(model, Ask(counted=counted))
    assert len(traced) > before


def test_a_callback_list_of_the_user_is_taken_twice():
    model, norms = small_model(), GradientNormLogger()
    listed = keras.callbacks.CallbackList([norms], add_history=True, model=model, epochs=2, steps=3)
    for _ in range(2):
        model.fit(X, Y, batch_size=BATCH, epochs=2, verbose=0, callbacks=listed)
        assert len(norms.history["grad_norm"]) == 6


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has one step an execution on PyTorch.")
def test_many_steps_an_execution_want_a_built_model():
    class Lazy(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

    model = Lazy()
    model.compile("sgd", "mse", steps_per_execution=2)
    model(X[:2])
    norms = GradientNormLogger()
    fit(model, norms)
    assert norms.history["step"] == list(range(6))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow alone traces a step anew that has made variables.")
@pytest.mark.parametrize("callback", [GradientNormLogger, TerminateOnNaN], ids=["looks", "guards"])
def test_the_first_step_is_traced_once(callback):
    traced = []

    class Own(keras.Sequential):
        def train_step(self, data):
            traced.append(data)
            return super().train_step(data)

    model = Own([keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    fit(model, callback())
    assert len(traced) == 1


@pytest.mark.skipif(BACKEND != "tensorflow", reason="The other backends build a model by calling it on symbols.")
@pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
def test_a_model_that_only_its_own_step_can_build_is_looked_at(eager):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            raise NotImplementedError

        def train_step(self, data):
            if eager:
                float(to_numpy(data[0]).sum())
            return {"loss": self.trained_on(self.dense(data[0]))}

        def trained_on(self, outputs):
            self.optimizer.apply_gradients([(0 * each.value, each) for each in self.trainable_variables])
            return keras.ops.mean(outputs)

    model, norms = Own(), GradientNormLogger()
    model.compile("sgd", run_eagerly=eager)
    fit(model, norms)
    assert norms.history["grad_norm"] == [0.0] * 6


@pytest.mark.parametrize("callback", [GradientNormLogger, TerminateOnNaN], ids=["looks", "guards"])
@pytest.mark.parametrize("parts", [(X, Y, None), (X, Y, np.ones(len(X), "float32"))], ids=["none", "weights"])
def test_a_generator_may_give_sample_weights_or_none(callback, parts):
    def batches():
        for start in range(0, len(X), BATCH):
            yield tuple(None if part is None else part[start : start + BATCH] for part in parts)

    options = {"steps_per_epoch": len(X) // BATCH, "shuffle": False, "verbose": 0}
    expected = small_model().fit(batches(), **options).history["loss"]
    found = small_model().fit(batches(), **options, callbacks=[callback()]).history["loss"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_model_without_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="must be compiled with a Keras optimizer; got None"):
        step_instrumentation(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


def test_norms_of_another_kind_are_refused():
    model = small_model()
    step = step_instrumentation(model)
    with pytest.raises(ValueError, match="Norms must be of gradient_norm, weight_norm, update_norm; got 'bias_norm'"):
        step.add_norms("bias_norm")
    step.end()


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow waits for each step in any case.")
def test_nothing_is_read_from_the_device_in_a_step_that_writes_nothing(monkeypatch):
    reads = []

    def counting(original):
        def read(*args, **kwargs):
            # Keras's own threads convert the logs of each step for callbacks that want them.
            if threading.current_thread() is threading.main_thread():
                reads.append(1)
            return original(*args, **kwargs)

        return read

    monkeypatch.setattr(keras.ops, "convert_to_numpy", counting(keras.ops.convert_to_numpy))
    kind = type(keras.ops.ones(()))
    for name in ("__array__", "__float__", "__int__", "__bool__", "__index__", "item", "tolist", "numpy", "cpu"):
        if hasattr(kind, name):
            monkeypatch.setattr(kind, name, counting(getattr(kind, name)))

    class Count(keras.callbacks.Callback):
        async_safe = True

        def on_train_batch_begin(self, batch, logs=None):
            counts.append(len(reads))

    of = {}
    for name, callbacks in {"none": [], "ours": [GradientNormLogger(), WarmupCosine(), TerminateOnNaN()]}.items():
        counts = []
        fit(small_model(metrics=["mae"]), *callbacks, Count(), epochs=1, batch_size=2)
        assert len(counts) == 24
        of[name] = counts[-1] - counts[1]  # The first step is traced, or built.
        assert name == "none" or len(reads) > counts[-1]  # At the end of the epoch all is read.
    assert of["ours"] == of["none"]
