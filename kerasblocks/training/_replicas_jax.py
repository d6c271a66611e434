"""Several devices on JAX: Keras's own distribution, which cannot take a batch that the devices cannot share evenly."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras
from keras.src.backend.jax import distribution_lib

_FLAG = "xla_force_host_platform_device_count"


@contextlib.contextmanager
def begun(devices: int | None) -> Iterator[tuple[int, int, int]]:
    """Sets a distribution over so many devices; puts the one before back in the end."""
    if devices is not None and devices > 1 and _FLAG not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError, OverflowError):  # JAX is in use and has its devices.
            jax.config.update("jax_num_cpu_devices", devices)  # type: ignore[no-untyped-call]
    if jax.process_count() > 1:
        raise ValueError(f"On JAX data_parallel knows one process; got {jax.process_count()}.")
    there = keras.distribution.list_devices()
    count = len(there) if devices is None else devices
    if count > len(there):
        raise ValueError(
            f"devices must be at most the {len(there)} that JAX has; got {devices}. On a CPU, set "
            f"XLA_FLAGS=--{_FLAG}={devices} before JAX is in use."
        )
    if count == 1:
        yield 1, 0, 1
        return
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=there[:count]))
    shared = distribution_lib.distribute_data_input
    distribution_lib.distribute_data_input = _on_all_if_uneven(shared, count)
    try:
        yield count, 0, 1
    finally:
        distribution_lib.distribute_data_input = shared
        keras.distribution.set_distribution(before)


def _on_all_if_uneven(shared: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Returns Keras's function that deals a batch out, but for one that all devices get whole: the last of an epoch."""

    def distribute(batch: Any, layout: Any, batch_dim_name: str) -> Any:
        if len(batch) % count == 0:
            return shared(batch, layout, batch_dim_name)
        mesh = layout.mesh if isinstance(layout, jax.sharding.NamedSharding) else layout.backend_layout.mesh
        whole = jax.sharding.PartitionSpec()  # type: ignore[no-untyped-call]
        return jax.device_put(batch, jax.sharding.NamedSharding(mesh, whole))

    return distribute
