"""What every layer of the library keeps, whatever it computes."""

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras.src import testing


def check_layer_contract(make: Callable[..., keras.layers.Layer], x: np.ndarray, folder: Path) -> None:
    """Checks config, serialization, shapes, dtypes and gradients of the layer that `make(**kwargs)` gives."""
    layer = make()
    before = layer.get_config()
    eager = keras.ops.convert_to_numpy(layer(x))
    assert layer.get_config() == before
    assert type(layer).from_config(before).get_config() == before

    unknown_batch = layer(keras.KerasTensor((None, *x.shape[1:])))
    assert unknown_batch.shape == (None, *eager.shape[1:])
    assert layer.compute_output_shape(x.shape) == eager.shape

    model = keras.Sequential([keras.Input(x.shape[1:]), make()])
    path = folder / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    expected = keras.ops.convert_to_numpy(model(x))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(loaded(x)), expected)

    for policy in ("mixed_float16", "mixed_bfloat16"):
        typed = make(dtype=policy)
        output = typed(x)
        assert keras.backend.standardize_dtype(output.dtype) == policy.removeprefix("mixed_")
        assert all(variable.dtype == "float32" for variable in typed.variables)
        assert np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))).all()

    _run_keras_harness(make, x, eager)


def _run_keras_harness(make: Callable[..., keras.layers.Layer], x: np.ndarray, eager: np.ndarray) -> None:
    layer = make()
    layer.build(x.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The harness fits a generator with shuffle=True, which Keras warns of.
        testing.TestCase().run_layer_test(
            type(layer),
            init_kwargs={key: value for key, value in make().get_config().items() if key not in ("name", "dtype")},
            input_shape=x.shape,
            expected_output_shape=eager.shape,
            expected_num_trainable_weights=len(layer.trainable_weights),
            expected_num_non_trainable_weights=0,
            expected_num_seed_generators=0,
            expected_num_losses=0,
            supports_masking=layer.supports_masking,
            custom_objects={},
        )
