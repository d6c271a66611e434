import json
import math
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from kerasblocks.diagnostics import LearningRateSweep, learning_rate_sweep
from kerasblocks.diagnostics.learning_rate_sweep import judged

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 8)).astype("float32")
Y = X @ RNG.normal(size=(8, 1)).astype("float32")


def made(optimizer=None, loss="mse"):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(optimizer or keras.optimizers.SGD(1e-5), loss)
    return model


def batches():
    for start in range(0, 256, 32):
        yield X[start : start + 32], Y[start : start + 32]


class Dataset(keras.utils.PyDataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return X[32 * index : 32 * index + 32], Y[32 * index : 32 * index + 32]


def by_hand(rates):
    """Returns the losses of gradient descent on the batches in their order, each before its update."""
    kernel, bias, losses = np.zeros((8, 1)), 0.0, []
    for step, rate in enumerate(rates):
        x, y = (part[32 * (step % 8) : 32 * (step % 8) + 32].astype("float64") for part in (X, Y))
        gap = x @ kernel + bias - y
        losses.append(float((gap**2).mean()))
        kernel, bias = kernel - rate * 2 * x.T @ gap / 32, bias - rate * 2 * gap.mean()
    return losses


@pytest.mark.parametrize("kind", ["function", "PyDataset"])
@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_the_losses_are_those_of_each_batch_before_its_update(kind, steps_per_execution):
    if steps_per_execution > 1 and keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs one step an execution.")
    model = made()
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    sweep = learning_rate_sweep(model, batches if kind == "function" else Dataset(), low=1e-4, high=0.1, steps=24)
    np.testing.assert_allclose(sweep.rates, np.geomspace(1e-4, 0.1, 24), rtol=1e-6)
    np.testing.assert_allclose(sweep.losses, by_hand(sweep.rates), rtol=1e-4)
    assert not sweep.diverged
    assert model.steps_per_execution == steps_per_execution


def test_a_schedule_accumulation_and_momentum_do_not_matter_to_the_rates():
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=0.02, warmup_steps=50)
    model = made(keras.optimizers.SGD(schedule, gradient_accumulation_steps=3))
    sweep = learning_rate_sweep(model, batches, low=1e-4, high=0.1, steps=24)
    np.testing.assert_allclose(sweep.losses, by_hand(sweep.rates), rtol=1e-4)
    assert sweep.compiled == pytest.approx(0.02, rel=1e-5)


def test_the_suggestion_trains_and_what_diverges_ends_the_sweep():
    model = made()
    sweep = learning_rate_sweep(model, X, Y, high=100.0)
    assert sweep.diverged
    assert sweep.rates[-1] < 30
    for name in ("steepest", "valley", "before_divergence"):
        assert 3e-3 < getattr(sweep, name) < 0.6
    model.compile(keras.optimizers.SGD(sweep.suggestion), "mse")
    assert model.fit(X, Y, epochs=10, verbose=0).history["loss"][-1] < 0.05 * sweep.losses[0]


def test_the_model_is_left_as_it_was():
    found = []
    for swept in (False, True):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(4, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
        model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        if swept:
            learning_rate_sweep(model, X, Y, steps=20)
        found.append(model.fit(X, Y, epochs=2, verbose=0).history["loss"])
    assert found[0] == found[1]


def test_the_same_seed_gives_the_same_losses():
    one, other, third = (learning_rate_sweep(made(), X, Y, steps=20, seed=seed) for seed in (1, 1, 2))
    assert one == other
    assert one.losses != third.losses


@pytest.mark.parametrize(("steps", "taken"), [(None, 480), (40, 40)])
def test_a_loss_that_never_falls_suggests_nothing(steps, taken):
    sweep = learning_rate_sweep(made(), np.zeros_like(X), RNG.normal(size=(256, 1)), high=1e-4, steps=steps)
    assert len(sweep.rates) == taken  # by default four times as many, where a plateau may be too long for the few
    assert sweep.suggestion is sweep.valley is sweep.steepest is sweep.before_divergence is None
    assert "suggestion none" in str(sweep)


def test_the_longer_sweep_begins_where_the_first_did(monkeypatch):
    module = sys.modules["kerasblocks.diagnostics.learning_rate_sweep"]
    monkeypatch.setattr(module, "_STEPS", 20)
    monkeypatch.setattr(module, "_MORE_STEPS", 40)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    before = model.get_weights()
    assert learning_rate_sweep(model, X, Y, high=1e-5) == learning_rate_sweep(model, X, Y, high=1e-5, steps=40)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_suggestion_is_no_rate_below_the_first():
    sweep = judged([1e-3, 2e-3, 4e-3], [2.0, 0.1, 9.0], [2.0] * 3, compiled=1.0, diverged=True)
    assert sweep.before_divergence < sweep.suggestion == 1e-3


def test_half_precision_is_swept_too():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = made(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64))
        sweep = learning_rate_sweep(model, X, Y, high=100.0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert 3e-3 < sweep.suggestion < 0.6


def curve(fall_from, least, rise):
    """Returns rates and losses that are 2 up to `fall_from`, 1 at `least`, and rise behind it."""
    rates = np.geomspace(1e-6, 1, 121)
    place, start, end = np.log10(rates), math.log10(fall_from), math.log10(least)
    losses = np.interp(place, [start, end, 0], [2, 1, rise])
    return rates.tolist(), losses.tolist()


@pytest.mark.parametrize(("fall_from", "least"), [(1e-5, 1e-2), (1e-4, 1e-1), (1e-3, 3e-2)])
def test_the_valley_lies_two_thirds_into_the_fall(fall_from, least):
    rates, losses = curve(fall_from, least, 5)
    noise = np.random.default_rng(0).normal(size=121)  # of the batches
    sweep = judged(rates, losses + noise, 2 + noise, compiled=1.0, diverged=False)
    expected = math.log10(fall_from) + 2 / 3 * (math.log10(least) - math.log10(fall_from))
    assert math.log10(sweep.valley) == pytest.approx(expected, abs=0.2)
    assert sweep.suggestion == pytest.approx(math.sqrt(sweep.valley * sweep.before_divergence))
    assert math.log10(sweep.before_divergence) == pytest.approx(math.log10(least) - 1, abs=0.15)
    assert fall_from < sweep.steepest < least


@pytest.mark.parametrize("dip", [0.0, 0.1])
def test_a_plateau_and_what_falls_before_it_do_not_move_the_valley(dip):
    rates = np.geomspace(1e-6, 1, 121)
    place = np.log10(rates)
    losses = np.interp(place, [-6, -5, -3, -2.7, -2, 0], [2, 2 - dip, 2, 2, 1, 5])
    sweep = judged(rates.tolist(), losses.tolist(), [2.0] * 121, compiled=1.0, diverged=False)
    assert math.log10(sweep.valley) == pytest.approx(-2.7 + 2 / 3 * 0.7, abs=0.1)


def test_a_loss_that_is_least_at_the_second_rate_has_a_valley():
    sweep = judged([1e-3, 1e-2, 1e-1], [1.0, 0.1, 9.0], [2.0] * 3, compiled=1.0, diverged=True)
    assert sweep.valley == 1e-2


@pytest.mark.parametrize("seed", range(5))
def test_a_fall_within_the_noise_suggests_nothing(seed):
    rates = np.geomspace(1e-6, 1, 121)
    noise = 0.03 * np.random.default_rng(seed).normal(size=121)
    losses = 0.7 + noise + np.maximum(0, np.log10(rates / 1e-3))
    sweep = judged(rates.tolist(), losses.tolist(), [0.7] * 121, compiled=1e-3, diverged=True)
    assert sweep.suggestion is sweep.steepest is sweep.before_divergence is None


def test_the_picture_and_the_numbers_are_written(tmp_path):
    sweep = learning_rate_sweep(made(), X, Y, high=100.0)
    sweep.plot(tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        assert min(image.size) > 300
        assert np.asarray(image.convert("L")).std() > 5
    told = json.loads(json.dumps(sweep.as_dict(), allow_nan=False))
    assert LearningRateSweep(**told) == sweep


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0}, "low and high must be positive and rise; got 0.0 and 1.0"),
        ({"low": 2.0}, "low and high must be positive and rise"),
        ({"high": math.nan}, "high must be a finite number"),
        ({"steps": 5}, "steps must be an integer of at least 20; got 5"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"y": Y[:3]}, "equally many samples"),
        ({"x": batches(), "y": None}, r"pass a function that makes one, as in lambda: my_generator\(\)"),
        ({"x": Dataset()}, "y and sample_weight must be part of the batches where x is a Dataset"),
        ({"x": lambda: iter(()), "y": None}, "There must be at least one batch; got none"),
        ({"x": 3}, "x, y and sample_weight must be arrays with equally many samples"),
        ({"x": None}, "x must be arrays, batches, or a function"),
    ],
    ids=["low", "order", "high", "steps", "batch size", "lengths", "generator", "labels", "empty", "scalar", "none"],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        learning_rate_sweep(made(), **{"x": X, "y": Y, **options})


def test_a_model_that_is_not_compiled_or_has_no_finite_loss_is_refused():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"must be compiled with a Keras optimizer: call model\.compile first"):
        learning_rate_sweep(model, X, Y)
    with pytest.raises(ValueError, match="The loss was not finite at the rate 1e-06"):
        learning_rate_sweep(made(), X, np.nan * Y)
