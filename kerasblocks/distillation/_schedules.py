"""Numbers of the distillation that may depend on the step of the training."""

from collections.abc import Callable
from typing import Any

import keras


def as_schedule(name: str, value: Any, checked: Callable[[Any], Any]) -> Any:
    """Returns the number that `checked` makes of the value, or the schedule that it is.

    Raises:
        ValueError: what `checked` raises, also of a schedule's value at step 0.
    """
    if not callable(value):
        return checked(value)
    try:
        first = value(0)
        first = float(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(first)).reshape(()))
    except Exception as error:
        raise ValueError(
            f"{name} must be a number or a schedule, a function of the step; {value!r} is none: {error}"
        ) from error
    checked(first)
    return value


def value_at(value: Any, step: Any) -> Any:
    """Returns the number, or the schedule's at this step as a float32 tensor."""
    return keras.ops.cast(value(step), "float32") if callable(value) else value


def serialized(value: Any) -> Any:
    """Returns a number or a schedule for a configuration."""
    return as_config(value) if callable(value) else value


def as_config(part: Any) -> Any:
    """Returns an object of Keras or a function for a configuration.

    Raises:
        TypeError: a function that could not be found again.
    """
    if not hasattr(part, "get_config"):
        registered = keras.saving.get_registered_object(keras.saving.get_registered_name(part))
        if registered is None:
            raise TypeError(
                f"{part!r} cannot be saved: define it with a name and @keras.saving.register_keras_serializable()."
            )
    return keras.saving.serialize_keras_object(part)


def deserialized(value: Any) -> Any:
    """Returns the number or the schedule of a configuration."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
