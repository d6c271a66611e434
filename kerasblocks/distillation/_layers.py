"""Layers of a model by their names, also those inside of others."""

from typing import Any


def layer_named(who: str, model: Any, name: str) -> Any:
    """Returns the layer of this name, or of this path of names, wherever it is in the model.

    Raises:
        ValueError: there is none, or there are several.
    """
    known = dict[int, tuple[str, Any]]()
    _collect(model, "", known)
    for found in (
        [(path, layer) for path, layer in known.values() if path == name],
        [(path, layer) for path, layer in known.values() if path.endswith(f"/{name}")],
    ):
        if len(found) == 1:
            return found[0][1]
        if found:
            raise ValueError(
                f"The {who} has several layers {name!r}: {', '.join(path for path, _ in found)}. Give more of the path."
            )
    names = ", ".join(path for path, _ in known.values())
    raise ValueError(
        f"The {who} {model.name!r} has no layer {name!r}. Its layers: {names or 'none yet; build it first'}."
    )


def _collect(layer: Any, path: str, known: dict[int, tuple[str, Any]]) -> None:
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if id(inner) not in known:
            where = f"{path}/{inner.name}" if path else inner.name
            known[id(inner)] = where, inner
            _collect(inner, where, known)
