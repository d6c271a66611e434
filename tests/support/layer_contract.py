"""What every layer of the library keeps, whatever it computes."""

import contextlib
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from gradients import assert_close
from keras.src import testing


def check_layer_contract(
    make: Callable[..., keras.layers.Layer],
    x: np.ndarray,
    folder: Path,
    init_kwargs: dict[str, Any] | None = None,
    seeds: int = 0,
) -> None:
    """Checks config, serialization, shapes, dtypes and gradients of the layer that `make(**kwargs)` gives.

    `init_kwargs` are the constructor's arguments where the configuration's values would not do, and `seeds` is
    the number of the layer's random generators.
    """
    keras.utils.set_random_seed(1)  # the precision of a sum that cancels depends on the weights
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

    _run_keras_harness(make, x, eager, init_kwargs, seeds)


def _check_half_precision(
    make: Callable[..., keras.layers.Layer], layer: keras.layers.Layer, x: np.ndarray, dtype: str, tolerance: float
) -> None:
    typed = make(dtype=f"mixed_{dtype}")
    typed.build(x.shape)
    typed.set_weights(layer.get_weights())
    rounded = keras.ops.cast(x, dtype)
    output = typed(rounded)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    assert all(variable.dtype == "float32" for variable in typed.weights)
    expected = keras.ops.convert_to_numpy(layer(keras.ops.cast(rounded, "float32")))
    assert_close(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32")), expected, tolerance)


def check_models(
    make: Callable[..., keras.layers.Layer], x: np.ndarray, folder: Path, to_the_end: bool = False
) -> None:
    """Checks the layer in Functional and subclassed models, with unknown sizes, every way of running, and remat.

    PyTorch's compiler traces the step, but makes code of it, which takes a minute, only `to_the_end`.
    """

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layer = make()

        def call(self, inputs: Any) -> Any:
            # A function made anew: JAX keeps the trace of one it knows, with the weights of then as constants.
            return keras.remat(lambda tensor: self.layer(tensor))(inputs)

    inputs = keras.Input((*[None] * (x.ndim - 2), x.shape[-1]) if x.ndim > 1 else ())
    functional = keras.Model(inputs, make()(inputs))
    path = folder / "functional.keras"
    functional.save(path)
    expected = keras.ops.convert_to_numpy(functional(x))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.saving.load_model(path)(x)), expected)

    weights, target = functional.get_weights(), np.zeros_like(expected)
    trained = []
    for model, options in [
        (functional, {"run_eagerly": True}),
        (functional, {"jit_compile": True}),
        (Subclassed(), {"jit_compile": False}),
    ]:
        model(x)
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.01), "mse", **options)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model does not have any trainable weights")
            # PyTorch's compiler warns of its own workings.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="torch")
            with contextlib.nullcontext() if to_the_end else _without_code():
                model.fit(x, target, batch_size=len(x), epochs=2, verbose=0, shuffle=False)
        trained.append([weight.copy() for weight in model.get_weights()])
    assert all(np.isfinite(weight).all() for weight in trained[0])
    trainable = [weight for weight in functional.weights if weight.trainable]
    # Weights are compared one by one: none may have been left where it was.
    moved = [not np.array_equal(new, old) for new, old in zip(trained[0], weights, strict=True)]
    assert sum(moved) >= len(trainable)
    for other in trained[1:]:
        for weight, wanted in zip(other, trained[0], strict=True):
            np.testing.assert_allclose(weight, wanted, rtol=1e-4, atol=1e-6)


def _without_code() -> contextlib.AbstractContextManager[Any]:
    """Within, PyTorch's compiler runs the operations that it has traced one by one."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return mock.patch("torch.compile", functools.partial(torch.compile, backend="aot_eager"))


def _run_keras_harness(
    make: Callable[..., keras.layers.Layer],
    x: np.ndarray,
    eager: np.ndarray,
    init_kwargs: dict[str, Any] | None,
    seeds: int,
) -> None:
    layer = make()
    layer.build(x.shape)
    if init_kwargs is None:
        init_kwargs = {key: value for key, value in make().get_config().items() if key not in ("name", "dtype")}
    # The harness leaves mixed precision out where it sees PyTorch without a GPU.
    sees_gpu = (
        mock.patch("torch.cuda.is_available", return_value=True)
        if keras.backend.backend() == "torch"
        else contextlib.nullcontext()
    )
    with warnings.catch_warnings(), sees_gpu:
        # The harness passes shuffle=True with a generator, and fits layers that have nothing to train.
        warnings.filterwarnings("ignore", "`shuffle=True` was passed|The model does not have any trainable weights")
        testing.TestCase().run_layer_test(
            type(layer),
            init_kwargs=init_kwargs,
            input_shape=x.shape,
            expected_output_shape=eager.shape,
            expected_num_trainable_weights=len(layer.trainable_weights),
            expected_num_non_trainable_weights=len(layer.non_trainable_weights),
            expected_num_seed_generators=seeds,
            expected_num_losses=0,
            supports_masking=layer.supports_masking,
            custom_objects={},
        )
