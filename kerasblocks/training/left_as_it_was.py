"""A model trained for a try, and all put back: weights, optimizer, seeds, compiled functions; Keras has no undo."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.trainers import compile_utils

from kerasblocks._backend_module import backend_module
from kerasblocks.training import _training_state
from kerasblocks.training._build import build

_backend = backend_module("kerasblocks.training._step")
_COMPILED = ("train_function", "test_function", "predict_function")
_OF_FIT = (
    "optimizer",
    "_compile_loss",
    "_compile_metrics",
    "stop_training",
    "history",
    "steps_per_execution",
    *_COMPILED,
)
_EXCLUSION = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
_ABSENT = object()


@contextlib.contextmanager
def left_as_it_was(
    model: keras.Model, batch: Any, *, learning_rate: float | None = None, accumulates: bool = True
) -> Iterator[Callable[[], None]]:
    """Within, the model may be trained, with a fresh copy of its optimizer; afterwards all is what it was, bit for bit.

    That is: the variables of the model and its metrics, the optimizer itself, which nothing within touches, the seed
    generators, the random states of Python, NumPy, Keras and the backend, and the functions that are compiled already.
    It is put back as well where an error is raised within. A model that is not built yet is built, with the weights
    that `fit` would have given it; that stays.

    Gives a function that goes back to the start within: weights, optimizer, metrics and random states, but not what is
    compiled, so that a second try takes the same course.

    Args:
        model: a compiled model.
        batch: one batch, `(x, y)` or `(x, y, sample_weight)`, by which what is not built yet is built.
        learning_rate: the copy's learning rate; by default what the optimizer has.
        accumulates: whether the copy accumulates gradients over several steps, where the optimizer does.

    Raises:
        ValueError: a model that is not compiled, or an optimizer that does not make a copy of itself by its config.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.training import left_as_it_was
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> x, y = np.ones((8, 2)), np.ones((8, 1))
    >>> before = model.get_weights()[0]
    >>> with left_as_it_was(model, (x, y)):
    ...     history = model.fit(x, y, verbose=0)
    >>> np.array_equal(model.get_weights()[0], before), model.optimizer.built
    (True, False)
    """
    own = compiled_optimizer(model)
    generators, shuffle = _training_state.generators(), _backend.shuffle_state()
    functions = {name: model.__dict__.get(name, _ABSENT) for name in _OF_FIT}
    optimizer = copied(own, learning_rate, accumulates)
    seed = _training_state.global_seed()
    first_seed = np.array(_backend.array_of(seed))
    model.__dict__["optimizer"] = optimizer  # past Keras, which would track it
    model.__dict__.update(dict.fromkeys(_COMPILED))  # They are of the optimizer that was there.
    # Keras's own, built when first used, tell `fit` what is left to build, for which it draws a batch.
    model.__dict__.update(
        {name: _unbuilt_twin(model.__dict__.get(name)) for name in ("_compile_loss", "_compile_metrics")}
    )
    try:
        build(model, batch)
        variables = [*model.variables, *model.metrics_variables]
        numbers = [variable for variable in variables if keras.backend.standardize_dtype(variable.dtype) != "string"]
        values = [np.array(_backend.array_of(variable)) for variable in numbers]
        slots = list(optimizer.variables)
        starts = [np.array(_backend.array_of(variable)) for variable in slots]

        def go_back() -> None:
            if hasattr(model, "jax_state_sync"):  # A fit that has raised leaves its state behind.
                model._jax_state, model._jax_state_synced = None, True
            for variable, value in zip([*numbers, *slots, seed], [*values, *starts, first_seed], strict=True):
                variable.assign(value)
            _training_state.set_generators(generators)
            _backend.set_shuffle_state(shuffle)

        try:
            yield go_back
        finally:
            go_back()
    finally:
        for name, value in functions.items():
            if value is _ABSENT:
                model.__dict__.pop(name, None)
            else:
                model.__dict__[name] = value
        seed.assign(first_seed)
        _training_state.set_generators(generators)
        _backend.set_shuffle_state(shuffle)


def compiled_optimizer(model: Any) -> Any:
    """Returns the model's optimizer; raises `ValueError` where it has not been compiled with one of Keras's."""
    optimizer = getattr(model, "optimizer", None)
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError("The model must be compiled with a Keras optimizer: call model.compile first.")
    return optimizer


def _unbuilt_twin(compiled: Any) -> Any:
    """Returns one to be built in the place of a compiled loss or of metrics that are not, else these."""
    if compiled is None or compiled.built:
        return compiled
    if isinstance(compiled, compile_utils.CompileLoss):
        given = compiled._user_loss, compiled._user_loss_weights
    else:
        given = compiled._user_metrics, compiled._user_weighted_metrics
    return type(compiled)(*given, output_names=compiled.output_names)


def copied(optimizer: Any, learning_rate: float | None = None, accumulates: bool = True) -> Any:
    """Returns a fresh optimizer of the same configuration, which also leaves the same variables from weight decay."""
    config = optimizer.get_config()
    inner = getattr(optimizer, "inner_optimizer", None)
    try:
        if inner is not None:
            config["inner_optimizer"] = copied(inner, learning_rate, accumulates)
            return type(optimizer)(**config)
        if learning_rate is not None:
            config["learning_rate"] = learning_rate
        if not accumulates:
            config["gradient_accumulation_steps"] = None
        made = type(optimizer).from_config(config)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{optimizer!r} does not make a copy of itself by from_config(get_config()): {error}"
        ) from error
    for name in _EXCLUSION:
        if hasattr(optimizer, name):
            setattr(made, name, getattr(optimizer, name))
    return made
