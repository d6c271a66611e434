"""What every layer of the library keeps, whatever it computes."""

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from gradients import assert_close
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

    _check_half_precision(make, layer, x, "float16", 2**-9)
    _check_half_precision(make, layer, x, "bfloat16", 2**-6)
    whole = np.round(x * 3).astype("int32")
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(layer(whole)), keras.ops.convert_to_numpy(layer(whole.astype("float32"))), rtol=1e-6
    )

    _run_keras_harness(make, x, eager)


def _check_half_precision(
    make: Callable[..., keras.layers.Layer], layer: keras.layers.Layer, x: np.ndarray, dtype: str, tolerance: float
) -> None:
    typed = make(dtype=f"mixed_{dtype}")
    typed.build(x.shape)
    typed.set_weights(layer.get_weights())
    rounded = keras.ops.cast(x, dtype)
    output = typed(rounded)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    assert all(variable.dtype == "float32" for variable in typed.variables)
    expected = keras.ops.convert_to_numpy(layer(keras.ops.cast(rounded, "float32")))
    assert_close(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")), expected, tolerance)


def _run_keras_harness(make: Callable[..., keras.layers.Layer], x: np.ndarray, eager: np.ndarray) -> None:
    layer = make()
    layer.build(x.shape)
    with warnings.catch_warnings():
        # The harness passes shuffle=True with a generator, and fits layers that have nothing to train.
        warnings.filterwarnings("ignore", "`shuffle=True` was passed|The model does not have any trainable weights")
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
