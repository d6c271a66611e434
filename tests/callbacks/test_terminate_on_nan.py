import contextlib
import gc
import json
import math
import warnings

import keras
import numpy as np
import pytest
from arrays import to_numpy
from fits import BATCH, X, Y, small_model

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.training import step_instrumentation

BACKEND = keras.backend.backend()
STEPS = len(X) // BATCH
not_on_torch = pytest.mark.skipif(BACKEND == "torch", reason="Keras has one step an execution on PyTorch.")


class Apply(keras.layers.Layer):
    """Is a function of its input."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def norm(x):
    return keras.ops.sqrt(keras.ops.sum(x * x, axis=-1, keepdims=True))


def model_of(*layers, optimizer="adam", loss="mse", **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer, loss, **options)
    return model


def state(model):
    return [to_numpy(each) for each in [*model.variables, *model.optimizer.variables]]


def is_finite(model):
    return all(np.isfinite(each).all() for each in state(model))


def fit(model, guard, x=X, y=Y, **options):
    callbacks = [*options.pop("before", []), guard, *options.pop("behind", [])]
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(x, y, callbacks=callbacks, **options)


def with_sample(data, index, value):
    changed = data.copy()
    changed[index] = value
    return changed


BAD = 2 * BATCH + 3  # a sample of step 2
BAD_X = with_sample(X, BAD, np.nan)
ZEROS = with_sample(X, slice(2 * BATCH, 3 * BATCH), 0.0)
ONES = np.ones_like(Y)


def by_a_steep_schedule():
    class Steep(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.where(step < 2, 1e-3, math.inf)

    return keras.optimizers.SGD(Steep())


ORIGINS = {
    "inputs": (lambda **o: model_of(**o), BAD_X, Y, {"inputs": True}),
    "infinite inputs": (lambda **o: model_of(**o), with_sample(X, BAD, np.inf), Y, {"inputs": True}),
    "labels": (lambda **o: model_of(**o), X, with_sample(Y, BAD, np.nan), {"labels": True, "layer": None}),
    "logarithm": (
        lambda **o: model_of(Apply(lambda x: keras.ops.log(keras.ops.abs(x)), name="logarithm"), **o),
        ZEROS,
        Y,
        {"layer": "logarithm"},
    ),
    "division": (
        lambda **o: model_of(Apply(lambda x: x / norm(x), name="division"), **o),
        ZEROS,
        Y,
        {"layer": "division"},
    ),
    "loss": (
        lambda **o: model_of(loss=lambda y, p: keras.ops.mean(keras.ops.log(y), -1) + 0 * keras.ops.mean(p), **o),
        X,
        with_sample(ONES, BAD, 0.0),
        {"layer": None, "labels": False, "loss": -math.inf},
    ),
    "gradient": (
        lambda **o: model_of(keras.layers.Dense(3, use_bias=False), Apply(norm), **o),
        ZEROS,
        Y,
        {"layer": None, "found": "gradients", "gradients": "dense"},
    ),
}


EXPLAINED = {
    "inputs": ("the batch's inputs are not finite", "numpy.isfinite"),
    "infinite inputs": ("the batch's inputs are not finite", "numpy.isfinite"),
    "labels": ("the batch's labels are not finite", "numpy.isfinite"),
    "logarithm": ("logarithm (Apply) is not finite, though its inputs", "keep logarithm, division and powers away"),
    "division": ("division (Apply) is not finite, though its inputs", "keep logarithm, division and powers away"),
    "loss": ("the loss is -inf although the model's outputs are finite", "from_logits=True"),
    "gradient": ("a gradient is not finite although the loss is", "add an epsilon inside of it"),
}


@pytest.mark.parametrize(
    "options",
    [{}, {"run_eagerly": True}, pytest.param({"steps_per_execution": 2}, marks=not_on_torch)],
    ids=["compiled", "eager", "two steps an execution"],
)
@pytest.mark.parametrize("origin", ORIGINS)
def test_the_first_number_that_is_not_finite_is_found_in_its_step_and_never_taken(origin, options, capsys):
    make, x, y, wanted = ORIGINS[origin]
    model, guard = make(**options), TerminateOnNaN()
    history = fit(model, guard, x, y, epochs=3).history
    plain = make(**options)
    plain.fit(x[: 2 * BATCH], y[: 2 * BATCH], batch_size=BATCH, shuffle=False, verbose=0)
    for one, other in zip(state(model), state(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    report = guard.report
    assert (report["step"], report["epoch"], report["batch"]) == (2, 0, 2)
    assert len(history["loss"]) == 1
    assert np.isfinite(history["loss"]).all()
    assert bool(report["inputs"]) == wanted.get("inputs", False)
    assert bool(report["labels"]) == wanted.get("labels", False)
    if "layer" in wanted:
        assert report["layer"] == wanted["layer"] or report["layer"].endswith(wanted["layer"])
    if "gradients" in wanted:
        assert wanted["found"] in report["found"]
        assert any(wanted["gradients"] in path for path in report["gradients"])
        assert math.isfinite(report["loss"])
    if "loss" in wanted:
        assert report["loss"] == wanted["loss"]
    printed = capsys.readouterr().out
    assert "stopped at step 2 (epoch 0, batch 2)" in printed
    assert report["cause"] in printed
    cause, remedy = EXPLAINED[origin]
    assert cause in report["cause"]
    assert remedy in report["remedy"]


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_an_update_that_is_not_finite_is_not_taken(options):
    model, guard = model_of(optimizer=by_a_steep_schedule(), **options), TerminateOnNaN()
    fit(model, guard, epochs=3)
    assert guard.report["step"] == 2
    assert guard.report["gradients"] == []
    assert guard.report["weights_after"]
    assert "their update makes" in guard.report["cause"]
    assert is_finite(model)


def test_moving_statistics_and_dropout_seeds_are_those_before_the_step():
    def make():
        return model_of(keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))

    model, plain = make(), make()
    keras.utils.set_random_seed(1)  # PyTorch's dropout draws from its own generator.
    fit(model, TerminateOnNaN(), BAD_X)
    keras.utils.set_random_seed(1)
    plain.fit(X[: 2 * BATCH], Y[: 2 * BATCH], batch_size=BATCH, shuffle=False, verbose=0)
    for one, other in zip(state(model), state(plain), strict=True):
        # The seeds are the same; the two steps, which are compiled apart, may round a last digit differently.
        np.testing.assert_allclose(one, other, rtol=0 if one.dtype.kind in "iu" else 1e-6)


def test_the_replay_has_the_random_numbers_of_the_step():
    drawn = []

    class Draw(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop = keras.layers.Dropout(0.5)

        def call(self, inputs, training=False):
            dropped = self.drop(keras.ops.ones((1, 400)), training=training)
            with contextlib.suppress(Exception):  # while the model is being built
                drawn.append(to_numpy(dropped))
            return inputs + 0 * keras.ops.sum(dropped)

    model = model_of(Draw(), run_eagerly=True)
    fit(model, TerminateOnNaN(), BAD_X)
    np.testing.assert_array_equal(drawn[-1], drawn[2])


def test_patience_lets_bad_steps_pass_and_metrics_stay_finite(capsys):
    model, guard = model_of(metrics=["mae"]), TerminateOnNaN(patience=2)
    history = fit(model, guard, BAD_X, epochs=2).history
    assert guard.report is None
    assert guard.bad_steps == [2, 5]
    assert "[2, 5]" in capsys.readouterr().out
    assert np.isfinite(list(history.values())).all()
    assert is_finite(model)
    without = model_of(metrics=["mae"])
    without.fit(X[: 2 * BATCH], Y[: 2 * BATCH], batch_size=BATCH, shuffle=False, epochs=2, verbose=0)
    for one, other in zip(state(model), state(without), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    guard = TerminateOnNaN(patience=1)
    assert len(fit(model_of(), guard, BAD_X, epochs=9).history["loss"]) == 2
    assert (guard.report["step"], guard.report["epoch"], guard.report["batch"]) == (5, 1, 2)
    assert guard.report["bad_steps"] == [2, 5]


@pytest.mark.parametrize("bytes_kept", [2**29, 1])
@pytest.mark.parametrize("bad", [2, 48, 55, 56, 104])
def test_past_the_stop_nothing_changes_until_the_host_knows(bad, bytes_kept, monkeypatch):
    monkeypatch.setattr("kerasblocks.training.instrumentation._KEPT_BYTES", bytes_kept)
    model, guard = model_of(), TerminateOnNaN()
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    x, y = np.tile(X, (20, 1)), np.tile(Y, (20, 1))
    x[2 * bad] = np.nan
    norms = GradientNormLogger(per_variable=False)
    fit(model, guard, x, y, batch_size=2, behind=[norms, count])
    plain = model_of()
    plain.fit(x[: 2 * bad], y[: 2 * bad], batch_size=2, shuffle=False, verbose=0)
    for one, other in zip(state(model), state(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert guard.report["step"] == bad
    assert guard.report["inputs"]  # of the batch that has been kept
    assert bad < len(seen) <= bad + 66
    assert len(norms.history["step"]) == bad + 1


def test_without_skip_update_the_report_says_what_it_cannot_know():
    model, guard = model_of(), TerminateOnNaN(skip_update=False)
    history = fit(model, guard, BAD_X, epochs=3).history
    assert guard.report["step"] == 2
    assert guard.report["inputs"]
    assert guard.report["layer"] is None
    assert "weights are gone" in guard.report["unknown"][0]
    assert not is_finite(model)
    assert len(history["loss"]) == 1


@pytest.mark.parametrize("skip_update", [True, False])
def test_raise_error_raises_the_report_and_calls_no_train_end(skip_update):
    ended = []
    other = keras.callbacks.LambdaCallback(on_train_end=lambda logs: ended.append(1))
    model = model_of()
    x = np.tile(X, (20, 1))
    x[5] = np.nan
    seen = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    guard = TerminateOnNaN(raise_error=True, skip_update=skip_update)
    with pytest.raises(RuntimeError, match=r"stopped at step 2 \(epoch 0, batch 2\)"):
        fit(model, guard, x, np.tile(Y, (20, 1)), batch_size=2, behind=[other, count])
    assert len(seen) <= 68
    assert not ended
    assert guard.report["inputs"]
    assert is_finite(model) == skip_update
    assert set(model.fit(X, Y, verbose=0).history) == {"loss"}


@pytest.mark.parametrize("skip_update", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_the_folder_of_backups_survives_a_stop_and_no_other_end(tmp_path, skip_update, first):
    model, backup = model_of(), keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model.build((None, 5))
    x = with_sample(np.tile(X, (2, 1)), 0, np.nan)
    guard = TerminateOnNaN(skip_update=skip_update, check=("gradients", "loss"))

    class Data(keras.utils.PyDataset):
        epoch = 0

        def __len__(self):
            return STEPS

        def __getitem__(self, index):
            part = slice(index * BATCH, (index + 1) * BATCH)
            return (x if Data.epoch else X)[part], Y[part]

    tell = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(Data, "epoch", epoch))
    order = {"before": [backup]} if first else {"behind": [backup]}
    callbacks = [tell, *order.get("before", []), guard, *order.get("behind", [])]
    model.fit(Data(), epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
    assert guard.report["epoch"] == 1
    assert (tmp_path / "backup" / "latest.weights.h5").exists()
    fresh = model_of()
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / "backup" / "latest.weights.h5")
    assert all(np.isfinite(each).all() for each in fresh.get_weights())
    keep = keras.callbacks.BackupAndRestore(tmp_path / "other")
    model_of().fit(X, Y, verbose=0, callbacks=[TerminateOnNaN()])
    another = model_of()
    another.build((None, 5))
    fit(another, TerminateOnNaN(), before=[keep])
    assert not (tmp_path / "other").exists()
    fit(another, TerminateOnNaN(), before=[backup], epochs=5)
    assert not (tmp_path / "backup").exists()


def test_the_report_is_written_as_json(tmp_path):
    path = tmp_path / "new" / "report.json"
    guard = TerminateOnNaN(report_path=path)
    fit(model_of(), guard, BAD_X, before=[WarmupCosine(warmup=0)])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["step"] == 2
    assert written["loss"] == "nan"
    assert written["inputs"] == guard.report["inputs"]
    assert set(written) == set(guard.report)
    assert [row["step"] for row in written["recent"]] == [0, 1, 2]
    assert all(row["learning_rate"] > 0 for row in written["recent"])
    assert written["stopped_at"] == 2
    assert [each.name for each in path.parent.iterdir()] == ["report.json"]


class TestLossScale:
    @pytest.fixture(autouse=True)
    def _policy(self):
        keras.config.set_dtype_policy("mixed_float16")
        yield
        keras.config.set_dtype_policy("float32")

    def test_an_overflow_that_the_loss_scale_mends_is_no_stop(self):
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-3), initial_scale=2.0**24)
        model, guard = model_of(optimizer=optimizer), TerminateOnNaN()
        fit(model, guard, epochs=8)
        assert guard.report is None
        assert guard.bad_steps == []
        assert float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale)) < 2.0**24
        assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) > 0

    def test_a_gradient_that_is_finite_at_no_scale_stops_the_fit(self):
        model, guard = model_of(keras.layers.Dense(3, use_bias=False), Apply(norm)), TerminateOnNaN()
        before = [to_numpy(each) for each in model.trainable_variables]
        fit(model, guard, 0 * X, epochs=20)
        assert guard.report["step"] == 0
        assert guard.report["loss_scale"] < 1
        assert any("dense" in path for path in guard.report["gradients"])
        assert "gradient is not finite although the loss is" in guard.report["cause"]
        for one, other in zip(model.trainable_variables, before, strict=True):
            np.testing.assert_array_equal(to_numpy(one), other)
        assert is_finite(model)

    def test_the_least_loss_scale_is_the_user_s(self):
        def make():
            direction = Apply(lambda x: keras.ops.where(x == 0, 0.0, x / norm(x)))  # Its slope at 0 is 0 / 0.
            return model_of(keras.layers.Dense(3, use_bias=False), direction)

        guard, endless = TerminateOnNaN(min_loss_scale=2.0**13), TerminateOnNaN(min_loss_scale=0)
        fit(make(), guard, 0 * X, epochs=20)
        assert guard.report["loss_scale"] == 2.0**12
        fit(make(), endless, 0 * X, epochs=60)
        assert endless.report["step"] == 0
        assert endless.report["stopped_at"] == endless.report["recent"][-1]["step"] == 63

    def test_an_activation_that_overflows_is_found_in_its_layer(self):
        model = model_of(Apply(lambda x: x * x, name="square"), keras.layers.BatchNormalization())
        guard = TerminateOnNaN()
        fit(model, guard, with_sample(X, BAD, 1e3))
        assert guard.report["step"] == 2
        assert guard.report["layer"].endswith("square")
        assert "float16 ends at 65504" in guard.report["remedy"]
        assert is_finite(model)


def test_custom_train_steps_class_weights_and_accumulation():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, *args):
            return super().train_step(*args)

    keras.utils.set_random_seed(0)
    model, guard = Own(), TerminateOnNaN()
    model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2), "mse", metrics=["mae"])
    fit(model, guard, BAD_X)
    assert guard.report["step"] == 2
    assert "dense" in guard.report["layer"]
    assert is_finite(model)
    guard = TerminateOnNaN()
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    fit(model, guard, X, (Y[:, 0] > 0).astype("int32"), class_weight={0: 1.0, 1: math.inf})
    assert guard.report["sample_weight"]
    assert is_finite(model)


def test_a_constant_that_is_infinite_is_no_finding():
    class Masked(keras.layers.Layer):
        def build(self, shape):
            self.mask = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False)

        def call(self, inputs):
            return keras.ops.where(self.mask < 0, 0.0, inputs)

    masked = Masked()
    model, guard = model_of(masked), TerminateOnNaN()
    masked.mask.assign(np.array([0, 0, -np.inf, 0, 0]))
    fit(model, guard, epochs=2)
    assert guard.report is None


def test_weights_whose_squares_overflow_are_no_finding():
    dense, guard = keras.layers.Dense(3), TerminateOnNaN()
    model = model_of(dense)
    kernel = to_numpy(dense.kernel)
    kernel[0] = 1e25
    dense.kernel.assign(kernel)
    fit(model, guard, np.where(np.arange(5) == 0, 0, X).astype("float32"), epochs=2)
    assert guard.report is None
    assert to_numpy(dense.bias).all()  # The updates were made.


def test_all_callbacks_together_and_one_of_a_kind():
    guard, norms = TerminateOnNaN(), GradientNormLogger()
    model, alone = model_of(), model_of()
    history = fit(model, guard, before=[norms, WarmupCosine()], epochs=2).history
    other = fit(alone, GradientNormLogger(), behind=[WarmupCosine()], epochs=2).history
    assert set(history) == {"loss", "grad_norm", "learning_rate"}
    for name, values in other.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-6)
    with pytest.raises(ValueError, match="Two callbacks guard the steps of one fit"):
        fit(small_model(), TerminateOnNaN(), before=[TerminateOnNaN()])


@pytest.mark.parametrize("check", ["gradients", "weights"])
def test_one_check_alone_finds_the_step(check):
    model, guard = model_of(keras.layers.Dense(3, use_bias=False), Apply(norm)), TerminateOnNaN(check=check)
    fit(model, guard, ZEROS)
    assert guard.report["found"] == [check]
    assert guard.report["step"] == 2
    assert is_finite(model)


def test_what_is_checked_is_what_was_asked_for():
    model, guard = model_of(keras.layers.Dense(3, use_bias=False), Apply(norm)), TerminateOnNaN(check="loss")
    fit(model, guard, ZEROS)
    assert guard.report is None  # The loss of this epoch was finite; the gradient was not.
    assert not is_finite(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"check": ()}, "check must be one or more of loss, gradients, weights"),
        ({"check": ("loss", "outputs")}, "check must be one or more of"),
        ({"check": None}, "check must be one or more of loss, gradients, weights; got None"),
        ({"check": 5}, "check must be one or more of"),
        ({"check": [["loss"]]}, "check must be one or more of"),
        ({"raise_error": 1}, "raise_error must be True or False"),
        ({"skip_update": None}, "skip_update must be True or False"),
        ({"patience": -1}, "patience must be an integer of at least 0"),
        ({"min_loss_scale": -1}, "min_loss_scale must be at least 0"),
        ({"min_loss_scale": math.nan}, "min_loss_scale must be a finite number"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TerminateOnNaN(**arguments)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras itself refuses such a model on the other backends.")
def test_a_model_that_only_runs_eagerly():
    class Eager(keras.layers.Layer):
        def call(self, inputs):
            to_numpy(inputs)
            return inputs

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    model, guard = model_of(Eager(), run_eagerly=True, metrics=["mae"]), TerminateOnNaN(patience=1)
    history = fit(model, guard, with_sample(X, 0, np.nan)).history
    assert guard.bad_steps == [0]
    assert np.isfinite(list(history.values())).all()
    assert is_finite(model)


def test_keras_s_own_sees_the_loss_when_the_update_is_made_and_its_stop_deletes_the_backup(tmp_path):
    model, backup = model_of(), keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=1)
    model.build((None, 5))
    fit(model, keras.callbacks.TerminateOnNaN(), BAD_X, before=[backup])
    assert not is_finite(model)
    assert not (tmp_path / "backup").exists()


class Raiser(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("boom")


def test_a_backup_is_itself_again_where_another_callback_raises_after_the_stop(tmp_path):
    model, backup = model_of(), keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model.build((None, 5))
    before = set(vars(backup))
    guard = TerminateOnNaN(skip_update=False)
    with pytest.raises(RuntimeError, match="boom"):
        fit(model, guard, BAD_X, before=[backup], behind=[Raiser()])
    assert guard.report["step"] == 2
    gc.collect()
    assert set(vars(backup)) - before <= {"_current_epoch", "_last_batch_seen"}


def test_an_error_at_the_end_of_an_epoch_leaves_nothing_on_the_model():
    model = model_of()
    before = {name for name in [*vars(model), *vars(model.optimizer)] if "kerasblocks" in name}
    with pytest.raises(RuntimeError, match="stopped at step 2"):
        fit(model, TerminateOnNaN(raise_error=True), BAD_X)
    assert {name for name in [*vars(model), *vars(model.optimizer)] if "kerasblocks" in name} == before
    assert "train_step" not in vars(model)


def test_a_train_step_without_a_loss_in_its_logs():
    class Silent(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, inputs):
            return self.dense(inputs)

        def train_step(self, *args):
            result = super().train_step(*args)
            if BACKEND == "jax":
                return {"other": result[0]["loss"]}, result[1]
            return {"other": result["loss"]}

    for check, found in (("loss", "gradients", "weights"), ["gradients", "weights"]), ("weights", ["weights"]):
        model, guard = Silent(), TerminateOnNaN(check=check)
        model.compile("adam", "mse")
        fit(model, guard, BAD_X)
        assert guard.report["step"] == 2
        assert guard.report["found"] == found
    model = Silent()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="the logs of train_step have no loss"):
        fit(model, TerminateOnNaN(check="loss"))


def test_a_schedule_of_a_user_without_a_configuration_can_be_guarded():
    class Constant(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    class SetRate(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            step_instrumentation(self.model).set_learning_rate(Constant())

    history = fit(model_of(), TerminateOnNaN(), behind=[SetRate()]).history
    assert history["learning_rate"] == [pytest.approx(0.1)]


def test_a_model_without_trainable_variables():
    model = keras.Sequential([keras.Input((5,)), keras.layers.ReLU()])
    model.compile("sgd", "mse")
    guard, norms = TerminateOnNaN(), GradientNormLogger()
    with warnings.catch_warnings(action="ignore"):  # Keras's own
        history = fit(model, guard, X, X, behind=[norms]).history
        assert history["grad_norm"] == [0.0]
        assert guard.report is None
        fit(model, guard, BAD_X, X)
    assert guard.report["found"] == ["loss"]
