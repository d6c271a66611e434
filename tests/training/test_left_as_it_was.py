import random

import keras
import numpy as np
import pytest

from kerasblocks.training import exclude_vectors_from_weight_decay, left_as_it_was

X = np.random.default_rng(0).normal(size=(24, 5)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 24)
LOSS = "sparse_categorical_crossentropy"


def made(optimizer=None, **options):
    layers = [keras.layers.Dense(4, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=3)]
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(3, "softmax")])
    model.compile(optimizer or keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"], **options)
    return model


def numbers(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def state(model):
    """Returns all that a fit changes."""
    generators = random.getstate(), [np.array(part) for part in np.random.get_state()[1:2]]  # noqa: NPY002 - Keras uses it
    variables = numbers([*model.variables, *model.metrics_variables, *model.optimizer.variables])
    return variables, generators, model.train_function, model.test_function, model.stop_training


def assert_same(one, other):
    for first, second in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(first, second)
    assert one[1][0] == other[1][0]
    np.testing.assert_array_equal(one[1][1], other[1][1])
    assert all(first is second for first, second in zip(one[2:], other[2:], strict=True))


@pytest.mark.parametrize("raises", [False, True])
def test_all_that_a_fit_changes_is_put_back(raises):
    model = made()
    model.fit(X, Y, verbose=0)
    model.evaluate(X, Y, verbose=0)
    before, optimizer, history = state(model), model.optimizer, model.history

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if raises:
                raise RuntimeError("stop")

    def work():
        with left_as_it_was(model, (X, Y)):
            assert model.optimizer is not optimizer
            random.random()  # noqa: S311
            model.predict(X, verbose=0)
            model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[Stop()])
            assert any((one != other).any() for one, other in zip(before[0], numbers(model.variables), strict=False))

    if raises:
        with pytest.raises(RuntimeError, match="stop"):
            work()
    else:
        work()
    assert model.optimizer is optimizer
    assert model.history is history
    assert_same(state(model), before)


def losses(model, tried):
    if tried:
        with left_as_it_was(model, (X, Y)):
            model.fit(X, Y, epochs=2, batch_size=5, verbose=0)
    return model.fit(X, Y, epochs=3, batch_size=5, verbose=0).history["loss"]


@pytest.mark.parametrize(("fitted", "policy"), [(False, "mixed_float16"), (True, "float32")])
def test_the_next_fit_is_what_it_would_have_been(fitted, policy):
    found = []
    for tried in (False, True):
        keras.config.set_dtype_policy(policy)
        keras.utils.set_random_seed(0)
        model = made()
        if fitted:
            model.fit(X, Y, batch_size=5, verbose=0)
        found.append(losses(model, tried))
    keras.config.set_dtype_policy("float32")
    assert found[0] == found[1]


def test_a_model_that_is_not_built_gets_the_weights_that_fit_would_give():
    found = []
    for tried in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        if tried:
            with left_as_it_was(model, (X, Y), learning_rate=0.1):
                model.fit(X, Y, verbose=0)
        else:
            model.fit(X, Y, verbose=0)
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_copy_leaves_the_same_variables_from_weight_decay():
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    model = made(optimizer)
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    with left_as_it_was(model, (X, Y)):
        decays = [model.optimizer._use_weight_decay(variable) for variable in model.trainable_variables]
    assert decays == [len(variable.shape) > 1 for variable in model.trainable_variables]


def test_the_copy_takes_another_rate_and_does_not_accumulate():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    inner = keras.optimizers.SGD(schedule, gradient_accumulation_steps=4)
    model = made(keras.optimizers.LossScaleOptimizer(inner, initial_scale=64))
    with left_as_it_was(model, (X, Y), learning_rate=0.25, accumulates=False):
        copy = model.optimizer.inner_optimizer
        assert float(keras.ops.convert_to_numpy(copy.learning_rate)) == 0.25
        assert copy.gradient_accumulation_steps is None
        assert model.optimizer.initial_scale == 64
    assert model.optimizer.inner_optimizer is inner


def test_a_model_that_is_not_compiled_and_an_optimizer_without_config_are_refused():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    with (
        pytest.raises(ValueError, match=r"must be compiled with a Keras optimizer: call model\.compile"),
        left_as_it_was(model, (X, Y)),
    ):
        pass

    class Own(keras.optimizers.SGD):
        def __init__(self, needed):
            super().__init__(0.1)

    model.compile(Own(1), LOSS)
    with pytest.raises(ValueError, match="does not make a copy of itself"), left_as_it_was(model, (X, Y)):
        pass
