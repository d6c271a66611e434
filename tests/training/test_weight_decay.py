import keras
import numpy as np
import pytest

from kerasblocks.training import exclude_vectors_from_weight_decay


def test_matrices_decay_and_vectors_do_not():
    layers = [keras.layers.Dense(2, bias_initializer="ones"), keras.layers.LayerNormalization()]
    model = keras.Sequential([keras.Input((3,)), *layers])
    optimizer = keras.optimizers.AdamW(0.5, weight_decay=0.2)
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    before = model.get_weights()
    gradients = [keras.ops.zeros(variable.shape) for variable in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    kernel, *vectors = model.get_weights()
    np.testing.assert_allclose(kernel, before[0] * (1 - 0.5 * 0.2), rtol=1e-6)
    assert [vector.tolist() for vector in vectors] == [vector.tolist() for vector in before[1:]]


def test_a_built_optimizer_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.AdamW(0.5)
    optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="must come before the optimizer is built"):
        exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
