import math

import keras
import numpy as np
import pytest
from arrays import random, to_numpy

from kerasblocks.training import locate_nonfinite

X, Y = random((8, 5)), random((8, 1), seed=1)


def model_of(*layers, loss="mse", compiled=True):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(1, name="last")])
    if compiled:
        model.compile("sgd", loss)
    return model


def test_nothing_is_found_where_all_is_finite():
    found = locate_nonfinite(model_of(), X, Y)
    assert not found.found
    assert found.layer is None
    assert found.gradients == []
    assert math.isfinite(found.loss)
    assert "is finite" in str(found)


def test_operations_between_layers_are_named():
    x = keras.Input((5,))
    logarithm = keras.ops.log(keras.ops.abs(x))
    model = keras.Model(x, keras.layers.Dense(1)(logarithm))
    model.compile("sgd", "mse")
    found = locate_nonfinite(model, 0 * X, Y)
    assert found.layer.startswith("log")
    assert found.layer_type == "Log"
    assert found.layer_input == (0.0, 0.0)
    assert found.loss == math.inf or math.isnan(found.loss)
    assert found.layer in str(found)


def test_arithmetic_in_a_model_s_own_call_is_told_from_a_layer_s():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(3, name="first"), keras.layers.Dense(1, name="second")

        def call(self, inputs):
            return self.second(keras.ops.log(0 * self.first(inputs)))

    assert locate_nonfinite(model_of(), X).loss is None  # without labels
    found = locate_nonfinite(Own(), X)
    assert found.layer.endswith("second")
    assert "between the layers" in found.cause
    assert found.loss is None


def test_the_innermost_layer_is_named():
    inner = keras.Sequential([keras.layers.Lambda(lambda x: x / 0.0, name="division")], name="inner")
    found = locate_nonfinite(model_of(inner), X, Y)
    assert found.layer.endswith("division")
    assert "from" in found.cause


def test_inputs_of_any_structure_and_several_outputs():
    one, other = keras.Input((5,), name="one"), keras.Input((5,), name="other")
    joined = keras.layers.Concatenate()([one, other])
    model = keras.Model({"one": one, "other": other}, [keras.layers.Dense(1)(joined), keras.layers.Dense(2)(joined)])
    model.compile("sgd", ["mse", "mse"])
    bad = X.copy()
    bad[3, 1] = bad[5, 2] = np.inf
    found = locate_nonfinite(model, {"one": X, "other": bad}, [Y, np.concatenate([Y, Y], 1)])
    assert found.inputs == ["x['other']: 2 of 40 numbers, in 2 of 8 samples, first sample 3"]
    assert "inputs are not finite" in found.cause
    weights = np.ones(8)
    weights[2] = np.nan
    found = locate_nonfinite(model_of(), X, Y, weights)
    assert found.sample_weight == ["sample_weight: 1 of 8 numbers, in 1 of 8 samples, first sample 2"]


def test_integer_inputs_labels_and_weights():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(9, 3), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2, activation="softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert not locate_nonfinite(model, np.zeros((2, 4), "int32"), np.array([0, 1])).found
    model.layers[0].embeddings.assign(np.full((9, 3), np.nan, "float32"))
    found = locate_nonfinite(model, np.zeros((2, 4), "int32"), np.array([0, 1]))
    assert found.weights == [model.layers[0].embeddings.path]
    assert "not finite before the step" in found.cause
    assert math.isnan(next(iter(found.largest_weights.values())))


def test_the_model_and_its_layers_are_as_before():
    model = model_of(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
    model.fit(X, Y, verbose=0)
    attributes = [set(vars(layer)) for layer in [model, *model.layers]]
    before = [to_numpy(each) for each in [*model.variables, *model.optimizer.variables, *model.metrics_variables]]
    locate_nonfinite(model, X, Y)
    with pytest.raises((ValueError, TypeError, RuntimeError)):
        locate_nonfinite(model, random((8, 3)), Y)
    after = [to_numpy(each) for each in [*model.variables, *model.optimizer.variables, *model.metrics_variables]]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert attributes == [set(vars(layer)) for layer in [model, *model.layers]]


def test_a_loss_of_a_layer_counts():
    class Penalty(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.log(0 * keras.ops.sum(keras.ops.abs(inputs))))
            return inputs

    found = locate_nonfinite(model_of(Penalty()), X, Y)
    assert found.layer is None
    assert not math.isfinite(found.loss)
    assert "although the model's outputs are finite" in found.cause


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="model must be a Keras model"):
        locate_nonfinite(keras.layers.Dense(1), X)


def test_a_recurrent_layer_is_named_although_its_cell_is_traced():
    model = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3, name="recurrent"), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = random((2, 6, 4))
    assert not locate_nonfinite(model, x, Y[:2]).found
    model.layers[0].cell.kernel.assign(np.full((4, 12), np.nan, "float32"))
    found = locate_nonfinite(model, x, Y[:2])
    assert "recurrent" in found.layer
