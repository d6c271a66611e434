"""Training on several devices by one call; Keras has one way on JAX, another on TensorFlow, and none on PyTorch."""

import contextlib
import dataclasses
from collections.abc import Iterator

from kerasblocks._arguments import as_integer
from kerasblocks._backend_module import backend_module

_backend = backend_module("kerasblocks.training._replicas")


@dataclasses.dataclass(frozen=True)
class Replicas:
    """The devices on which one model is trained together.

    Attributes:
        count: number of devices, each with a copy of the model and its part of every batch.
        process: index of this process among those that train together.
        processes: their number.
    """

    count: int = 1
    process: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and tells the user."""
        return self.process == 0


_current = [Replicas()]


@contextlib.contextmanager
def data_parallel(devices: int | None = None) -> Iterator[Replicas]:
    """Trains what is built and fitted inside on several devices, each with its part of every batch.

    The engines are the backends' own: `keras.distribution.DataParallel` on JAX, `tf.distribute.MirroredStrategy` on
    TensorFlow, and the collectives of `torch.distributed` on PyTorch, in processes that `torchrun` starts. The batch
    size is that of all devices together. Gradients are averaged over the samples of the whole batch before
    `kerasblocks.training` looks at them and before the optimizer clips them, and metrics are those of all samples, so
    in float32 and without random layers the losses are those of one device, but for rounding. BatchNormalization
    normalizes over each device's own part on TensorFlow and PyTorch, over the whole batch on JAX.

    Model, optimizer and metrics must be made inside. On TensorFlow and PyTorch, train by `Run.fit`, which averages and
    gives each process its part of the batches; `Model.fit` on PyTorch knows of no other process. Losses must be means
    over samples there; what a mask leaves out counts in each part by itself. Where there is one device, nothing is set
    up.

    On a machine without accelerators, as many virtual devices as asked for share the CPU on JAX and TensorFlow, to try
    things on; the framework must not have been in use before.

    Args:
        devices: how many, of all processes together; None for all that there are.

    Yields:
        `Replicas`: how many devices there are, and which process this is.

    Raises:
        ValueError: there are not so many devices, or processes; or `data_parallel` is entered inside itself.

    Example:

    >>> from kerasblocks.training import data_parallel
    >>> with data_parallel(devices=1) as replicas:
    ...     replicas.count, replicas.is_first
    (1, True)
    """
    if devices is not None:
        devices = as_integer("devices", devices, least=1)
    if len(_current) > 1:
        raise ValueError("data_parallel is in force already.")
    with _backend.begun(devices) as (count, process, processes):
        _current.append(Replicas(count, process, processes))
        try:
            yield _current[-1]
        finally:
            _current.pop()


def current_replicas() -> Replicas:
    """Returns what `data_parallel` has set up; one device outside of it."""
    return _current[-1]
