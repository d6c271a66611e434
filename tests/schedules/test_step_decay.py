import keras
import numpy as np
import pytest

from kerasblocks.schedules import StepDecay, step_decay

ARGUMENTS = {"initial_learning_rate": 0.8, "factor": 0.1, "every": 3}
STEPS = [0, 1, 2, 3, 5, 6, 8, 9, 30]


def closed_form(step):
    return 0.8 * 0.1 ** (step // 3)


@pytest.mark.parametrize("step", STEPS)
def test_numbers(step):
    rate = step_decay(step, **ARGUMENTS)
    assert type(rate) is float
    assert rate == pytest.approx(closed_form(step), rel=1e-12)


def test_arrays():
    np.testing.assert_allclose(step_decay(np.array(STEPS), **ARGUMENTS), [closed_form(s) for s in STEPS], rtol=1e-12)


def test_tensors():
    rates = step_decay(keras.ops.convert_to_tensor(np.array(STEPS), dtype="int32"), **ARGUMENTS)
    assert keras.backend.standardize_dtype(rates.dtype) == "float32"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(rates), [closed_form(s) for s in STEPS], rtol=1e-5)


def test_an_optimizer_takes_the_schedule():
    optimizer = keras.optimizers.SGD(StepDecay(**ARGUMENTS))
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    for step in range(7):
        before = float(keras.ops.convert_to_numpy(variable))
        optimizer.apply([keras.ops.convert_to_tensor(np.float32(-1.0))], [variable])
        assert float(keras.ops.convert_to_numpy(variable)) - before == pytest.approx(closed_form(step), abs=1e-6)


def test_config_round_trip():
    schedule = StepDecay(**ARGUMENTS)
    config = keras.optimizers.schedules.serialize(schedule)
    assert keras.optimizers.schedules.deserialize(config).get_config() == schedule.get_config() == ARGUMENTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial_learning_rate": -1.0}, "initial_learning_rate must be 0 or more; got -1.0"),
        ({"factor": -0.1}, "factor must be 0 or more; got -0.1"),
        ({"factor": float("inf")}, "factor must be a finite number; got inf"),
        ({"every": 0}, "every must be an integer of at least 1; got 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        StepDecay(**ARGUMENTS | changes)
