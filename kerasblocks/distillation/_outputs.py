"""What the outputs of a student and its teacher are called, and that they are compared with their like."""

from typing import Any

import keras


def check_alike(student: Any, teacher: Any) -> None:
    """Raises `ValueError` where named outputs would be paired with others."""
    names = [sorted(each) if isinstance(each, dict) and len(each) > 1 else None for each in (student, teacher)]
    if names[0] != names[1]:
        raise ValueError(
            "Student and teacher must name their outputs alike, or neither may name them; the student's are "
            f"{names[0] or 'not named'}, the teacher's {names[1] or 'not named'}."
        )


def check_order(student: Any, teacher: Any) -> None:
    """Raises `ValueError` where outputs in a list have the same names in another order."""
    names: list[Any] = [getattr(each, "output_names", None) or [] for each in (student, teacher)]
    nested = any(isinstance(getattr(each, "_outputs_struct", None), dict) for each in (student, teacher))
    if not nested and names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        raise ValueError(
            f"The student's outputs are {names[0]}, the teacher's {names[1]}: outputs in a list are compared in its "
            "order, so give both models the same one, or dicts."
        )


def one_output(who: str, name: str, layers: dict[str, Any]) -> Any:
    """Returns the shape of the output of a layer; raises `ValueError` where it has several."""
    if not hasattr(layers[name], "shape"):
        raise ValueError(f"Layer {name!r} of the {who} returns several tensors; choose a layer that returns one.")
    return layers[name].shape


def named_outputs(model: Any, outputs: Any) -> list[tuple[Any, int | None]]:
    """Returns name, or place, and number of classes of each output."""
    flat = keras.tree.flatten(outputs)
    names: Any = sorted(outputs) if isinstance(outputs, dict) else getattr(model, "output_names", None)
    if not names or len(names) != len(flat):
        names = range(len(flat))
    return [(name, each.shape[-1] if len(each.shape) else None) for name, each in zip(names, flat, strict=True)]
