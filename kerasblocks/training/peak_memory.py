"""The most memory that a process has had; Keras asks no backend for it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import keras

_STATUS = Path("/proc/self/status")


def peak_memory() -> dict[str, int | None]:
    """Returns the most memory that this process has had so far, in bytes.

    Returns:
        A dict with `process`, the largest resident memory that the system has counted, None on Windows; and `device`,
        the largest that the backend has taken of the first accelerator, None where there is none.

    Example:

    >>> from kerasblocks.training import peak_memory
    >>> sorted(peak_memory())
    ['device', 'process']
    """
    backend = keras.backend.backend()
    return {"process": _process_bytes(), "device": _DEVICE_BYTES[backend](importlib.import_module(backend))}


_told = 0  # of the process: Linux counts in batches, and can tell a little less later


def _process_bytes() -> int | None:
    global _told
    peak = _counted_bytes()
    _told = max(_told, peak or 0)
    return _told or None


def _counted_bytes() -> int | None:
    if _STATUS.is_file():  # Linux, whose getrusage counts what the process had that has started this one
        known = [line.split() for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        if known:
            return 1024 * int(known[0][1])
    try:
        import resource
    except ImportError:  # as on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _tensorflow_bytes(tf: Any) -> int | None:
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None


def _jax_bytes(jax: Any) -> int | None:
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _torch_bytes(torch: Any) -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


_DEVICE_BYTES = {"tensorflow": _tensorflow_bytes, "jax": _jax_bytes, "torch": _torch_bytes}
