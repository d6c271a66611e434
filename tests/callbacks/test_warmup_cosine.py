import keras
import numpy as np
import pytest
from fits import BATCH, X, Y, small_model

from kerasblocks.callbacks import GradientNormLogger, WarmupCosine
from kerasblocks.schedules import WarmupCosineDecay, warmup_cosine

BACKEND = keras.backend.backend()
STEPS = len(X) // BATCH


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(logs["learning_rate"])


def fit(model, *callbacks, **options):
    options = {"epochs": 4, "batch_size": BATCH, "shuffle": False, "verbose": 0} | options
    return model.fit(X, Y, callbacks=list(callbacks), **options)


def rates_of(model, callback, **options):
    rates = Rates()
    fit(model, callback, rates, **options)
    return rates.seen


def wanted(total, steps, **arguments):
    return [warmup_cosine(step, total_steps=total, **arguments) for step in steps]


@pytest.mark.parametrize(
    ("arguments", "schedule"),
    [
        ({"peak_learning_rate": 0.2, "warmup": 4}, {"peak_learning_rate": 0.2, "warmup_steps": 4}),
        ({"warmup": 0.25}, {"peak_learning_rate": 0.1, "warmup_steps": 3}),
        ({}, {"peak_learning_rate": 0.1, "warmup_steps": 1}),
        ({"warmup": 0}, {"peak_learning_rate": 0.1, "warmup_steps": 0}),
        ({"warmup": 1.0}, {"peak_learning_rate": 0.1, "warmup_steps": 12}),
        (
            {"warmup": 2, "initial_learning_rate": 0.05, "minimum_learning_rate": 0.01},
            {
                "peak_learning_rate": 0.1,
                "warmup_steps": 2,
                "initial_learning_rate": 0.05,
                "minimum_learning_rate": 0.01,
            },
        ),
    ],
    ids=str,
)
def test_the_rate_is_the_schedule_s_over_the_steps_of_the_fit(arguments, schedule):
    seen = rates_of(small_model(), WarmupCosine(**arguments))
    np.testing.assert_allclose(seen, wanted(4 * STEPS, range(4 * STEPS), **schedule), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_trains_as_the_same_schedule_in_the_optimizer_does(options):
    arguments = {"peak_learning_rate": 0.05, "warmup_steps": 3, "total_steps": 12}
    theirs = small_model(optimizer=keras.optimizers.AdamW(WarmupCosineDecay(**arguments)), **options)
    fit(theirs)
    ours = small_model(optimizer=keras.optimizers.AdamW(0.05), **options)
    fit(ours, WarmupCosine(warmup=3))
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_updates_are_counted_where_gradients_are_accumulated():
    model = small_model(optimizer=keras.optimizers.Adam(0.1, gradient_accumulation_steps=2))
    seen = rates_of(model, WarmupCosine(warmup=2))
    updates = np.repeat(np.arange(6), 2)
    np.testing.assert_allclose(seen, wanted(6, updates, peak_learning_rate=0.1, warmup_steps=2), rtol=1e-5)


def test_the_optimizer_inside_a_loss_scale_is_the_one_that_counts():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0)
    model, plain = small_model(optimizer=optimizer), small_model()
    seen = rates_of(model, WarmupCosine(warmup=2))
    np.testing.assert_allclose(seen, rates_of(plain, WarmupCosine(warmup=2)), rtol=1e-6)
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_logs_of_an_epoch_have_the_rate_of_its_last_step():
    history = fit(small_model(), WarmupCosine(warmup=2)).history["learning_rate"]
    last = range(STEPS - 1, 4 * STEPS, STEPS)
    np.testing.assert_allclose(history, wanted(12, last, peak_learning_rate=0.1, warmup_steps=2), rtol=1e-5)


def test_the_optimizer_has_its_own_rate_again_and_the_next_fit_begins_anew():
    model = small_model()
    first = rates_of(model, WarmupCosine(warmup=2))
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.1)
    np.testing.assert_allclose(rates_of(model, WarmupCosine(warmup=2)), first, rtol=1e-6)


def test_a_fit_that_resumes_goes_on_where_it_was(tmp_path):
    whole = rates_of(small_model(), WarmupCosine(warmup=5))
    model, callback = small_model(), WarmupCosine(warmup=5)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    rates = Rates()
    fit(model, callback, rates, Stop())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    rest = rates_of(loaded, WarmupCosine(warmup=5), initial_epoch=2)
    np.testing.assert_allclose([*rates.seen, *rest], whole, rtol=1e-6)


def test_total_steps_and_unknown_lengths():
    def batches():
        while True:
            yield X[:BATCH], Y[:BATCH]

    quiet = {"shuffle": False, "verbose": 0}
    with pytest.raises(ValueError, match="cannot count the steps, for the data have no known length"):
        small_model().fit(iter_once(), epochs=2, **quiet, callbacks=[WarmupCosine()])
    rates = Rates()
    with pytest.warns(UserWarning, match="ran out of data"):
        small_model().fit(iter_once(), epochs=1, **quiet, callbacks=[WarmupCosine(warmup=2, total_steps=8), rates])
    np.testing.assert_allclose(rates.seen, wanted(8, range(3), peak_learning_rate=0.1, warmup_steps=2), rtol=1e-5)
    rates = Rates()
    small_model().fit(batches(), epochs=2, steps_per_epoch=3, **quiet, callbacks=[WarmupCosine(warmup=2), rates])
    np.testing.assert_allclose(rates.seen, wanted(6, range(6), peak_learning_rate=0.1, warmup_steps=2), rtol=1e-5)


def iter_once():
    for start in range(0, len(X), BATCH):
        yield X[start : start + BATCH], Y[start : start + BATCH]


def test_an_optimizer_with_a_schedule_is_refused_at_train_begin():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    model = small_model(optimizer=keras.optimizers.SGD(schedule))
    with pytest.raises(ValueError, match="WarmupCosine needs an optimizer with a number as its learning_rate"):
        fit(model, WarmupCosine())
    fit(model)


def test_two_of_them_are_refused():
    with pytest.raises(ValueError, match="Two callbacks set the learning rate of one fit; keep one of them"):
        fit(small_model(), WarmupCosine(), WarmupCosine())


def test_beside_the_gradient_norms():
    norms = GradientNormLogger()
    history = fit(small_model(), norms, WarmupCosine(warmup=2)).history
    assert set(history) == {"loss", "grad_norm", "learning_rate"}
    assert len(norms.history["grad_norm"]) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"peak_learning_rate": -1.0}, "peak_learning_rate must be 0 or more; got -1.0"),
        ({"warmup": -1}, "warmup must be an integer of at least 0; got -1"),
        ({"warmup": 1.5}, "warmup must be a share from 0.0 to 1.0, or a number of updates as an integer; got 1.5"),
        ({"warmup": "5%"}, "warmup must be an integer of at least 0; got '5%'"),
        ({"initial_learning_rate": float("nan")}, "initial_learning_rate must be a finite number"),
        ({"minimum_learning_rate": -1}, "minimum_learning_rate must be 0 or more"),
        ({"total_steps": 0}, "total_steps must be an integer of at least 1; got 0"),
        ({"total_steps": 3, "warmup": 4}, "warmup must be at most the number of updates, 3; got 4"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(**arguments)


def test_a_warmup_longer_than_the_fit_is_refused_at_train_begin():
    with pytest.raises(ValueError, match="warmup must be at most the number of updates, 12; got 13"):
        fit(small_model(), WarmupCosine(warmup=13))
