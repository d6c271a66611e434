import json
import math

import keras
import numpy as np
import optax
import pytest

from kerasblocks.schedules import WarmupCosineDecay, warmup_cosine

CASES = {
    "usual": {"peak_learning_rate": 0.1, "warmup_steps": 5, "total_steps": 20},
    "with ends": {
        "peak_learning_rate": 0.1,
        "warmup_steps": 3,
        "total_steps": 17,
        "initial_learning_rate": 0.02,
        "minimum_learning_rate": 0.01,
    },
    "no warmup": {"peak_learning_rate": 0.1, "warmup_steps": 0, "total_steps": 7, "minimum_learning_rate": 0.001},
    "warmup only": {"peak_learning_rate": 0.1, "warmup_steps": 6, "total_steps": 6, "minimum_learning_rate": 0.003},
    "one step": {"peak_learning_rate": 0.1, "warmup_steps": 0, "total_steps": 1},
    "downwards": {"peak_learning_rate": 0.1, "warmup_steps": 4, "total_steps": 9, "initial_learning_rate": 0.3},
}


def closed_form(s, peak_learning_rate, warmup_steps, total_steps, initial_learning_rate=0.0, minimum_learning_rate=0.0):
    if s >= total_steps:
        return minimum_learning_rate
    if s < warmup_steps:
        return initial_learning_rate + (peak_learning_rate - initial_learning_rate) * (s + 1) / warmup_steps
    share = (s - warmup_steps) / (total_steps - warmup_steps)
    return minimum_learning_rate + (peak_learning_rate - minimum_learning_rate) * (1 + math.cos(math.pi * share)) / 2


@pytest.fixture(params=CASES)
def arguments(request):
    return CASES[request.param]


@pytest.fixture
def steps(arguments):
    warmup, total = arguments["warmup_steps"], arguments["total_steps"]
    return sorted({0, 1, max(warmup - 1, 0), warmup, warmup + 1, total - 1, total, total + 1, 10 * total})


def test_numbers(arguments, steps):
    rates = [warmup_cosine(step, **arguments) for step in steps]
    assert {type(rate) for rate in rates} == {float}
    np.testing.assert_allclose(rates, [closed_form(step, **arguments) for step in steps], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32"])
def test_arrays(arguments, steps, dtype):
    rates = warmup_cosine(np.array(steps).astype(dtype), **arguments)
    assert rates.dtype == np.float64
    np.testing.assert_allclose(rates, [closed_form(step, **arguments) for step in steps], rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_tensors(arguments, steps, dtype):
    rates = warmup_cosine(keras.ops.cast(np.array(steps), dtype), **arguments)
    assert keras.backend.standardize_dtype(rates.dtype) == "float32"
    wanted = [closed_form(step, **arguments) for step in steps]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(rates), wanted, rtol=1e-5, atol=1e-8)


def test_symbols(arguments):
    assert warmup_cosine(keras.KerasTensor((3,), "int32"), **arguments).shape == (3,)


def test_steps_beyond_the_digits_of_float32_are_told_apart():
    start = 2**24
    steps = keras.ops.convert_to_tensor(np.array([start, start + 1, start + 2]), dtype="int32")
    rates = warmup_cosine(steps, peak_learning_rate=1.0, warmup_steps=start, total_steps=start + 2)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(rates), [1.0, 0.5, 0.0], atol=1e-6)


def test_an_optimizer_takes_the_schedule_step_by_step(arguments):
    optimizer = keras.optimizers.SGD(WarmupCosineDecay(**arguments))
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    for step in range(arguments["total_steps"] + 1):
        before = float(keras.ops.convert_to_numpy(variable))
        optimizer.apply([keras.ops.convert_to_tensor(np.float32(-1.0))], [variable])
        wanted = closed_form(step, **arguments)
        assert float(keras.ops.convert_to_numpy(variable)) - before == pytest.approx(wanted, abs=1e-6)


def test_the_first_update_is_not_zero():
    assert warmup_cosine(0, peak_learning_rate=1.0, warmup_steps=100, total_steps=1000) == 0.01


@pytest.mark.parametrize("case", ["usual", "with ends", "no warmup", "downwards"])
def test_equals_optax_where_the_definitions_coincide(case):
    arguments = CASES[case]
    peak, warmup, total = (arguments[name] for name in ("peak_learning_rate", "warmup_steps", "total_steps"))
    initial, minimum = (arguments.get(name, 0.0) for name in ("initial_learning_rate", "minimum_learning_rate"))
    # Optax counts its warmup from the first rate on: one step fewer, and a cosine that begins a step earlier.
    first = initial + (peak - initial) / warmup if warmup else peak
    theirs = optax.warmup_cosine_decay_schedule(first, peak, max(warmup - 1, 0), total - bool(warmup), minimum)
    steps = np.arange(total + 5)
    wanted = [float(theirs(step if step < warmup else step - bool(warmup))) for step in steps]
    np.testing.assert_allclose(warmup_cosine(steps, **arguments), wanted, rtol=1e-5, atol=1e-8)


def test_config_round_trip(arguments, tmp_path):
    schedule = WarmupCosineDecay(**arguments)
    again = WarmupCosineDecay.from_config(json.loads(json.dumps(schedule.get_config())))
    assert (
        again.get_config()
        == schedule.get_config()
        == {"initial_learning_rate": 0.0, "minimum_learning_rate": 0.0} | arguments
    )


def test_a_saved_model_loads_with_its_schedule(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(WarmupCosineDecay(**CASES["with ends"])), "mse")
    model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(closed_form(3, **CASES["with ends"]), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peak_learning_rate": -1}, "peak_learning_rate must be 0 or more; got -1"),
        ({"peak_learning_rate": "0.1"}, "peak_learning_rate must be a finite number; got '0.1'"),
        ({"initial_learning_rate": float("nan")}, "initial_learning_rate must be a finite number; got nan"),
        ({"minimum_learning_rate": -0.1}, "minimum_learning_rate must be 0 or more"),
        ({"warmup_steps": -1}, "warmup_steps must be an integer of at least 0; got -1"),
        ({"warmup_steps": 2.5}, "warmup_steps must be an integer of at least 0; got 2.5"),
        ({"total_steps": 0, "warmup_steps": 0}, "total_steps must be an integer of at least 1; got 0"),
        ({"warmup_steps": 21}, "total_steps includes the warmup: .* at most total_steps, 20; got 21"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "make", [WarmupCosineDecay, lambda **each: warmup_cosine(0, **each)], ids=["class", "function"]
)
def test_bad_arguments_are_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**CASES["usual"] | changes)


@pytest.mark.parametrize("step", ["1", None, True, 1j], ids=str)
def test_a_step_that_is_no_number_is_refused(step):
    with pytest.raises(ValueError, match="step must be a number, an array or a tensor of real numbers; got"):
        warmup_cosine(step, **CASES["usual"])


def test_keras_s_own_warmup_begins_at_rate_0_and_is_no_part_of_its_total():
    theirs = keras.optimizers.schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=2)
    assert float(theirs(0)) == 0.0
    assert float(theirs(10)) > 0.0
    ours = WarmupCosineDecay(peak_learning_rate=1.0, warmup_steps=2, total_steps=10)
    assert float(ours(0)) == 0.5
    assert float(ours(10)) == 0.0
