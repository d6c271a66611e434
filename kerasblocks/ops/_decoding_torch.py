"""What decoding takes from PyTorch: a step's operations, recorded so that no layer is called; a place in a cache."""

import operator
from collections.abc import Callable
from typing import Any

import keras
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

EAGER_STEPS = 64
"""Steps that are taken before one is recorded, which takes about as long as these."""


def surroundings() -> Any:
    """Returns what else decides what a function computes, beside its arguments and the model."""
    device = keras.src.backend.torch.core.get_device()
    kind = torch.device(device).type
    return torch.is_autocast_enabled(kind) and (kind, torch.get_autocast_dtype(kind))


def compiled(function: Callable[..., Any], model: Callable[[], Any]) -> Callable[..., Any]:
    """Returns the function of arrays; `model()` is the one whose variables it reads."""

    def run(*arguments: Any) -> Any:
        with torch.no_grad():
            return function(*map(keras.ops.convert_to_tensor, arguments))

    return run


def compiled_step(function: Callable[..., Any], model: Callable[[], Any], wanted: Any) -> Callable[..., Any]:
    """Returns the function, by PyTorch's compiler where that is wanted, else recorded when it has been called often."""
    return torch.compile(function, dynamic=False) if wanted is True else _Recorded(function, model)


def put(cache: Any, new: Any, start: Any) -> Any:
    """Returns the cache with what is new from place `start` of axis 1 on, written into it."""
    places = torch.arange(new.shape[1], device=cache.device) + start
    return cache.index_copy_(1, places, new)


class _Recorded:
    """A function of tensors that are always of the same shapes, from some call on the operations of one such call.

    A function that looks at the values of its tensors cannot be recorded, nor one that leaves something on a layer:
    they stay as they are.
    """

    def __init__(self, function: Callable[..., Any], model: Callable[[], Any]) -> None:
        self._function, self._model = function, model
        self._calls = 0
        self._variables: list[Any] = []
        self._operations: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        self._calls += 1
        if self._calls == EAGER_STEPS + 1:
            self._record(arguments)
        if self._operations is None:
            return self._function(*arguments)
        return self._operations([variable.value for variable in self._variables], *arguments)

    def _record(self, arguments: tuple[Any, ...]) -> None:
        model = self._model()
        self._variables = model.variables

        def run(values: list[Any], *arguments: Any) -> Any:
            read = list(zip(self._variables, values, strict=True))
            with keras.StatelessScope(read) as scope:
                outputs = self._function(*arguments)
            if any(scope.get_current_value(one) is not value for one, value in read):
                raise RuntimeError("A variable was assigned.")
            return outputs

        values = [variable.value for variable in self._variables]
        before = [_State(layer) for layer in model._flatten_layers()]
        try:
            operations = _operations_of(run, (values, *arguments))
        except Exception:  # whatever a layer raises that needs values
            operations = None
        changed = [state.put_back() for state in before]
        self._operations = None if any(changed) else operations


class _State:
    """The attributes of a layer, and what lies in its lists, dicts and sets."""

    def __init__(self, layer: Any) -> None:
        self._attributes, self._before = vars(layer), dict(vars(layer))
        containers = [value for value in self._before.values() if isinstance(value, list | dict | set)]
        self._contents = [(value, value.copy()) for value in containers]

    def put_back(self) -> bool:
        """Puts everything back, and returns whether anything was changed."""
        now, before = self._attributes, self._before
        changed = now.keys() != before.keys() or any(now[name] is not value for name, value in before.items())
        if changed:
            now.clear()
            now.update(before)
        for value, kept in self._contents:
            if [*map(id, _parts(value))] != [*map(id, _parts(kept))]:
                changed = True
                value.clear()
                value.extend(kept) if isinstance(value, list) else value.update(kept)
        return changed


def _parts(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else [*container]


def _operations_of(function: Callable[..., Any], arguments: Any) -> Callable[..., Any]:
    """Returns a function that does what this one does with tensors like these, operation by operation.

    By a graph that is made here: `make_fx` patches PyTorch for all threads while it traces.
    """
    leaves, structure = tree_flatten(arguments)
    fake = FakeTensorMode()  # of tensors that have no values, so that none is taken for a constant
    with fake:
        copies = [fake.from_tensor(leaf) for leaf in leaves]
        with _Recorder(copies) as recorder:
            outputs = function(*tree_unflatten(copies, structure))
    flat, output_structure = tree_flatten(outputs)
    run = recorder.module([recorder.node(leaf) for leaf in flat])
    return lambda *arguments: tree_unflatten(run(*tree_flatten(arguments)[0]), output_structure)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations of this thread in a graph."""

    def __init__(self, inputs: list[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graph, self._constants = torch.fx.Graph(), torch.nn.Module()
        self._seen: list[Any] = []  # which keeps them, and so their ids, alive
        self._nodes: dict[int, Any] = {}
        for number, tensor in enumerate(inputs):
            self._note(tensor, self._graph.placeholder(f"input_{number}"))

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_map(self.node, (args, kwargs or {}))
        outputs = operation(*args, **(kwargs or {}))
        if isinstance(outputs, torch.Tensor):
            self._note(outputs, self._graph.call_function(operation, *given))
        elif isinstance(outputs, list | tuple):  # else it is a question, as for the device
            node = self._graph.call_function(operation, *given)
            for number, each in enumerate(outputs):
                self._note(each, self._graph.call_function(operator.getitem, (node, number)))
        return outputs

    def node(self, value: Any) -> Any:
        """Returns the graph's node of a tensor; anything else as it is."""
        if not isinstance(value, torch.Tensor):
            return value
        if id(value) not in self._nodes:  # a number that the code has made a tensor
            name = f"constant_{len(self._seen)}"
            self._constants.register_buffer(name, value)
            self._note(value, self._graph.get_attr(name))
        return self._nodes[id(value)]

    def module(self, outputs: list[Any]) -> Any:
        """Returns what has been noted as a function."""
        self._graph.output(outputs)
        return torch.fx.GraphModule(self._constants, self._graph)

    def _note(self, tensor: Any, node: Any) -> None:
        self._seen.append(tensor)
        self._nodes[id(tensor)] = node
