"""What a run ran on: Keras has no one call that names versions, backend and devices."""

import importlib
import platform
from typing import Any

import keras
import numpy as np

from kerasblocks._version import __version__


def environment() -> dict[str, Any]:
    """Describes the machine and the software of this process, ready for JSON.

    Returns:
        A dict with `python`, `platform`, `kerasblocks`, `keras`, `numpy` (versions as strings),
        `backend` (`"tensorflow"`, `"jax"` or `"torch"`), `backend_version` and `devices` (the kinds
        of the devices that the backend sees, accelerators first, `"cpu"` for a CPU).

    Example:

    >>> from kerasblocks.training import environment
    >>> found = environment()
    >>> found["backend"] in ("tensorflow", "jax", "torch"), len(found["devices"]) > 0
    (True, True)
    """
    backend = keras.backend.backend()
    framework = importlib.import_module(backend)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kerasblocks": __version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "backend": backend,
        "backend_version": str(framework.__version__),
        "devices": _DEVICES[backend](framework),
    }


def _tensorflow_devices(tf: Any) -> list[str]:
    found = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        found.append(details.get("device_name", device.device_type.lower()))
    return sorted(found, key=lambda name: name == "cpu")


def _jax_devices(jax: Any) -> list[str]:
    return [device.device_kind for device in jax.devices()]


def _torch_devices(torch: Any) -> list[str]:
    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        accelerators.append("mps")
    return accelerators or ["cpu"]


_DEVICES = {"tensorflow": _tensorflow_devices, "jax": _jax_devices, "torch": _torch_devices}
