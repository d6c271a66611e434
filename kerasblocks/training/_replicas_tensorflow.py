"""Several devices on TensorFlow: its mirrored strategy."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def begun(devices: int | None) -> Iterator[tuple[int, int, int]]:
    """Enters the scope of a strategy over so many devices."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU" and devices is not None and devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        with contextlib.suppress(RuntimeError, OverflowError):  # TensorFlow is in use and has its devices.
            if len(tf.config.get_logical_device_configuration(cpu) or []) < devices:
                tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    there = [device.name for device in tf.config.list_logical_devices(kind)]
    count = len(there) if devices is None else devices
    if count > len(there):
        raise ValueError(
            f"devices must be at most the {len(there)} that TensorFlow has; got {devices}. On a CPU, call "
            "data_parallel, or tf.config.set_logical_device_configuration, before TensorFlow is in use."
        )
    if count == 1:
        yield 1, 0, 1
        return
    with tf.distribute.MirroredStrategy(there[:count]).scope():
        yield count, 0, 1
