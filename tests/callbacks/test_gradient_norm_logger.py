import keras
import numpy as np
import pandas
import pytest
from arrays import random
from fits import BATCH, X, Y, norms_by_brute_force, small_model
from tensorboard_events import read_scalars

from kerasblocks.callbacks import GradientNormLogger

BACKEND = keras.backend.backend()
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.01),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=1e-3),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.1, global_clipnorm=1e-3),
    "clipvalue": lambda: keras.optimizers.SGD(0.1, clipvalue=1e-4),
    "accumulation": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "ema": lambda: keras.optimizers.SGD(0.1, use_ema=True),
    "loss_scale_factor": lambda: keras.optimizers.SGD(0.1, loss_scale_factor=1024.0),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=256.0),
}
RUNS = {
    "compiled": {"jit_compile": BACKEND != "torch"},
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "three steps an execution": {"steps_per_execution": 3},
}


class LastOfAll(keras.callbacks.Callback):
    """Keeps the logs as any callback behind ours sees them."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


def fit(model, *callbacks, **options):
    options = {"epochs": 2, "batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(X, Y, callbacks=list(callbacks), **options)


def assert_equals_brute_force(norms, wanted, each, tolerance=1e-5):
    np.testing.assert_allclose(norms.history["grad_norm"], wanted, rtol=tolerance)
    kept = norms.history["per_variable"]
    actual = np.array(list(kept["gradient_norm"].values())).T
    assert actual.shape == each.shape
    np.testing.assert_allclose(actual, each, rtol=tolerance, atol=tolerance * each.max())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_norms_equal_brute_force_whatever_the_optimizer_does_with_the_gradients(optimizer):
    model, norms = small_model(optimizer=OPTIMIZERS[optimizer]()), GradientNormLogger()
    fit(model, norms)
    plain = "sgd" if "loss" in optimizer else optimizer
    assert_equals_brute_force(norms, *norms_by_brute_force(small_model(), OPTIMIZERS[plain](), steps=6))
    assert norms.history["step"] == list(range(6))
    assert norms.history["epoch"] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("run", RUNS)
def test_norms_equal_brute_force_however_the_step_runs(run):
    if BACKEND == "torch" and "steps_per_execution" in RUNS[run]:
        pytest.skip("Keras has one step an execution on PyTorch.")
    model, norms = small_model(**RUNS[run]), GradientNormLogger()
    fit(model, norms)
    assert_equals_brute_force(norms, *norms_by_brute_force(small_model(), keras.optimizers.SGD(0.1), steps=6))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_norms_under_mixed_precision_are_those_of_the_policy(policy):
    keras.config.set_dtype_policy(policy)
    model, norms = small_model(optimizer=OPTIMIZERS["loss scaling"]()), GradientNormLogger()
    fit(model, norms)
    assert_equals_brute_force(norms, *norms_by_brute_force(small_model(), keras.optimizers.SGD(0.1), 6), 1e-2)


@pytest.fixture(autouse=True)
def _float32():
    yield
    keras.config.set_dtype_policy("float32")


def test_sample_weights_count():
    model, norms, weights = small_model(), GradientNormLogger(), np.linspace(0, 3, len(X)).astype("float32")
    fit(model, norms, sample_weight=weights)
    assert_equals_brute_force(norms, *norms_by_brute_force(small_model(), keras.optimizers.SGD(0.1), 6, weights))


def test_steps_that_overflow_stay_out_of_the_mean_and_are_counted():
    keras.config.set_dtype_policy("mixed_float16")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**20)
    model, norms, last = small_model(optimizer=optimizer), GradientNormLogger(), LastOfAll()
    fit(model, norms, last, epochs=4)
    steps = np.array(norms.history["grad_norm"]).reshape(4, 3)
    finite = np.isfinite(steps)
    assert not finite[0].any()
    assert finite[-1].all()
    assert norms.non_finite_steps == (~finite).sum()
    assert f"{(~finite).sum()} of them with a norm that is not finite" in norms.summary()
    for epoch, row, kept in zip(last.epochs, steps, finite, strict=True):
        np.testing.assert_allclose(epoch["grad_norm"], row[kept].mean() if kept.any() else np.nan, rtol=1e-6)


def test_every_callback_sees_the_norm_and_the_other_means_stay_what_they_were():
    plain = fit(small_model(metrics=["mae"]), validation_data=(X, Y)).history
    before, last, norms = LastOfAll(), LastOfAll(), GradientNormLogger()
    seen = fit(small_model(metrics=["mae"]), before, norms, last, validation_data=(X, Y)).history
    for step, wanted in zip(last.steps, norms.history["grad_norm"], strict=True):
        assert step["grad_norm"] == pytest.approx(wanted, rel=1e-6)
    assert before.steps == last.steps
    assert before.epochs == last.epochs
    means = np.array(norms.history["grad_norm"]).reshape(2, 3).mean(axis=1)
    np.testing.assert_allclose(seen.pop("grad_norm"), means, rtol=1e-6)
    assert set(seen) == set(plain) == {"loss", "mae", "val_loss", "val_mae"}
    for name, values in seen.items():
        np.testing.assert_allclose(values, plain[name], rtol=1e-6)


class OwnStep(keras.Model):
    """Has a train_step of its own, as Keras's guide shows it for each backend."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, *args):
        result = super().train_step(*args)
        logs, *state = result if isinstance(result, tuple) else (result,)
        logs = {"own": logs["loss"] * 2}
        return (logs, *state) if state else logs


def test_a_model_with_its_own_train_step():
    model, norms = OwnStep(), GradientNormLogger()
    model.compile("sgd", "mse")
    history = fit(model, norms).history
    assert set(history) == {"own", "grad_norm"}
    assert len(norms.history["grad_norm"]) == 6


def test_an_embedding_whose_gradient_is_sparse_and_a_variable_without_a_gradient():
    class Odd(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(4, 3)
            self.unused = self.add_weight(shape=(2,), name="unused")

        def call(self, inputs):
            return keras.ops.sum(self.embedding(inputs), axis=-1)

    model, norms = Odd(), GradientNormLogger()
    model.compile(keras.optimizers.SGD(0.0), loss=lambda y, p: keras.ops.sum(p))
    x = np.array([[0, 0, 1, 2]])
    if BACKEND == "jax":
        model.fit(x, x, verbose=0, callbacks=[norms])
    else:
        with pytest.warns(UserWarning, match="Gradients do not exist for variables"):
            model.fit(x, x, verbose=0, callbacks=[norms])
    # Rows 0, 1, 2 of the embedding are met 2, 1 and 1 times: (4 + 1 + 1) · 3 columns.
    assert norms.history["grad_norm"] == [pytest.approx(18**0.5, rel=1e-6)]
    by_path = {
        path.split("/")[-1]: values[0] for path, values in norms.history["per_variable"]["gradient_norm"].items()
    }
    assert by_path["embeddings"] == pytest.approx(18**0.5, rel=1e-6)
    assert by_path["unused"] == 0 if BACKEND == "jax" else np.isnan(by_path["unused"])


def test_weight_norms_and_update_ratios():
    model, norms = small_model(), GradientNormLogger(every=2)
    weights = [model.get_weights()]
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    fit(model, norms, keep, epochs=3, batch_size=len(X))
    kept = norms.history["per_variable"]
    assert kept["step"] == [0, 2]
    for place, path in enumerate(kept["weight_norm"]):
        for row, step in enumerate(kept["step"]):
            before, after = (weights[number][place].astype("float64") for number in (step, step + 1))
            norm = np.linalg.norm(before)
            assert kept["weight_norm"][path][row] == pytest.approx(norm, rel=1e-5)
            if norm:
                wanted = np.linalg.norm(after - before) / norm
                assert kept["update_ratio"][path][row] == pytest.approx(wanted, rel=1e-3)


def test_the_file_has_every_step_and_pandas_reads_it(tmp_path):
    norms = GradientNormLogger(log_dir=tmp_path / "new", every=2)
    model = small_model()
    fit(model, norms)
    table = pandas.read_csv(tmp_path / "new" / "grad_norm.csv")
    whole = table[table.variable == "all"]
    np.testing.assert_allclose(whole.gradient_norm, norms.history["grad_norm"], rtol=1e-6)
    assert whole.step.tolist() == list(range(6))
    assert whole.epoch.tolist() == [0, 0, 0, 1, 1, 1]
    one = table[table.variable == model.trainable_variables[0].path]
    assert one.step.tolist() == [0, 2, 4]
    np.testing.assert_allclose(
        one.update_ratio, norms.history["per_variable"]["update_ratio"][model.trainable_variables[0].path], rtol=1e-6
    )
    points = [value for tag, _, value in read_scalars(tmp_path / "new") if tag == "grad_norm"]
    np.testing.assert_allclose(points, norms.history["grad_norm"], rtol=1e-6)
    fit(model, norms, epochs=1)
    table = pandas.read_csv(tmp_path / "new" / "grad_norm.csv")
    assert table[table.variable == "all"].step.tolist() == list(range(9))


def test_a_file_of_another_kind_is_not_touched(tmp_path):
    path = tmp_path / "grad_norm.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"grad_norm.csv exists and has the columns \['a', 'b'\]"):
        fit(small_model(), GradientNormLogger(log_dir=tmp_path))
    assert path.read_text() == "a,b\n1,2\n"


def test_the_verdict_names_what_vanishes_and_what_explodes():
    deep = keras.Sequential([keras.Input((4,))])
    for number in range(40):
        deep.add(keras.layers.Dense(4, activation="sigmoid", name=f"sigmoid_{number}"))
    deep.compile("sgd", "mse")
    norms = GradientNormLogger()
    deep.fit(random((8, 4)), random((8, 4), 1), verbose=0, callbacks=[norms])
    assert "sigmoid_0/kernel: vanishes; its median norm" in norms.summary()
    assert "sigmoid_39/kernel" not in norms.summary()
    growing = small_model(optimizer=keras.optimizers.SGD(1e3))
    fit(growing, norms, epochs=6)
    assert "explode" in norms.summary()
    fit(small_model(), norms)
    assert "No gradient vanishes or explodes." in norms.summary()
    assert GradientNormLogger().summary() == "No step has been seen."


def test_the_plot_is_a_picture(tmp_path):
    norms = GradientNormLogger()
    with pytest.raises(ValueError, match="no norms per variable to draw"):
        norms.plot(tmp_path / "norms.png")
    fit(small_model(), norms)
    norms.plot(tmp_path / "norms.png")
    assert (tmp_path / "norms.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be an integer of at least 1; got 0"),
        ({"per_variable": 1}, "per_variable must be True or False; got 1"),
        ({"update_ratio": "no"}, "update_ratio must be True or False; got 'no'"),
        ({"name": ""}, "name must be the name of a log entry and a file; got ''"),
        ({"name": "a/b"}, "name must be the name of a log entry and a file; got 'a/b'"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradientNormLogger(**options)
