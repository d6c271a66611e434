"""A layer's forward pass, or forward and backward, as a function without arguments that waits for the device."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

Execution = Literal["eager", "compiled", "xla"]


def step(layer: Any, x: Any, upstream: Any, *, backward: bool, execution: Execution) -> Callable[[], list[Any]]:
    """Returns a function that gives the output and, with `backward`, the gradients by x and the weights.

    Compiled is `jax.jit`, `tf.function` or `torch.compile`, xla `tf.function(jit_compile=True)`. Where a framework
    has not the execution that is asked for, a ValueError says which it has.
    """
    backend = keras.backend.backend()
    known: dict[str, tuple[Execution, ...]] = {
        "jax": ("compiled",),
        "tensorflow": ("eager", "compiled", "xla"),
        "torch": ("eager", "compiled"),
    }
    if execution not in known[backend]:
        raise ValueError(f"execution on {backend} must be one of {', '.join(known[backend])}; got {execution}.")
    if backend == "jax":
        return _jax_step(layer, x, upstream, backward)
    make = _tensorflow_step if backend == "tensorflow" else _torch_step
    return make(layer, x, upstream, backward, execution)


def saved_bytes(layer: Any, x: Any) -> int | None:
    """Returns the bytes that the forward pass keeps for the backward pass beside x and weights; None if unknown."""
    backend = keras.backend.backend()
    if backend == "torch":
        return _torch_saved_bytes(layer, x)
    return _jax_saved_bytes(layer, x) if backend == "jax" else None


def copy_ms(x: Any) -> float:
    """Returns the milliseconds of a copy of x, the least that an elementwise operation can cost."""
    if keras.backend.backend() == "jax":
        import jax

        copied = jax.jit(lambda tensor: tensor.copy())

        def copy() -> None:
            copied(x).block_until_ready()
    elif keras.backend.backend() == "torch":

        def copy() -> None:
            x.detach().clone()
            _wait_for_torch(x)
    else:
        import tensorflow as tf

        def copy() -> None:
            tf.raw_ops.DeepCopy(x=x)  # assigning to a variable would share the buffer
            tf.test.experimental.sync_devices()

    times = []
    for _ in range(30):
        start = time.perf_counter()
        copy()
        times.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(times[5:]), 4)


def _jax_step(layer: Any, x: Any, upstream: Any, backward: bool) -> Callable[[], list[Any]]:
    import jax

    trainable = [variable.value for variable in layer.trainable_variables]
    rest = [variable.value for variable in layer.non_trainable_variables]

    def forward(x: Any, trainable: Any) -> Any:
        return layer.stateless_call(trainable, rest, x)[0]

    def both(x: Any, trainable: Any, upstream: Any) -> Any:
        output, pull_back = jax.vjp(forward, x, trainable)
        by_x, by_weights = pull_back(upstream)
        return [output, by_x, *by_weights]

    compiled: Any = jax.jit(both) if backward else jax.jit(lambda x, trainable, _: [forward(x, trainable)])
    wait: Any = jax.block_until_ready
    return lambda: wait(compiled(x, trainable, upstream))


def _tensorflow_step(
    layer: Any, x: Any, upstream: Any, backward: bool, execution: Execution
) -> Callable[[], list[Any]]:
    import tensorflow as tf

    weights = [variable.value for variable in layer.trainable_variables]

    def eager(x: Any, upstream: Any) -> Any:
        if not backward:
            return [layer(x)]
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x)
        return [output, *tape.gradient(output, [x, *weights], upstream)]

    function = eager if execution == "eager" else tf.function(eager, jit_compile=execution == "xla")

    def run() -> list[Any]:
        results: list[Any] = function(x, upstream)
        tf.test.experimental.sync_devices()
        return results

    return run


def _torch_step(layer: Any, x: Any, upstream: Any, backward: bool, execution: Execution) -> Callable[[], list[Any]]:
    import torch

    weights = [variable.value for variable in layer.trainable_variables]
    function = torch.compile(layer) if execution == "compiled" else layer

    def forward() -> list[Any]:
        with torch.no_grad():
            outputs = [function(x)]
        _wait_for_torch(x)
        return outputs

    def both() -> list[Any]:
        output = function(x)
        gradients = torch.autograd.grad(output, [x, *weights], upstream)
        _wait_for_torch(x)
        return [output, *gradients]

    x.requires_grad_(backward)
    return both if backward else forward


def _wait_for_torch(x: Any) -> None:
    import torch

    if x.is_cuda:
        torch.cuda.synchronize()


def _torch_saved_bytes(layer: Any, x: Any) -> int:
    import torch

    kept: dict[int, int] = {}
    inputs = {each.untyped_storage().data_ptr() for each in (x, *(v.value for v in layer.variables))}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = layer(x)  # kept alive, so that no storage is used twice
    del output
    return sum(kept.values())


def _jax_saved_bytes(layer: Any, x: Any) -> int:
    import jax

    trainable = [variable.value for variable in layer.trainable_variables]
    rest = [variable.value for variable in layer.non_trainable_variables]
    _, pull_back = jax.vjp(lambda x, trainable: layer.stateless_call(trainable, rest, x)[0], x, trainable)
    inputs = {id(each) for each in (x, *trainable, *rest)}
    return sum(each.nbytes for each in _unique(jax.tree.leaves(pull_back)) if id(each) not in inputs)


def _unique(leaves: Sequence[Any]) -> list[Any]:
    return list({id(leaf): leaf for leaf in leaves if hasattr(leaf, "nbytes")}.values())
