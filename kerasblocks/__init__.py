"""A toolkit for Keras 3 that works unchanged on TensorFlow, JAX and PyTorch.

Importing it imports Keras and the one backend that Keras uses, and registers the layers, so that
saved models load without `custom_objects`.
"""

from kerasblocks import _backend_module as _backend_module  # first: it says what to do where Keras finds no backend
from kerasblocks import callbacks, data, diagnostics, distillation, layers, models, ops, schedules, training
from kerasblocks._version import __version__

__all__ = [
    "__version__",
    "callbacks",
    "data",
    "diagnostics",
    "distillation",
    "layers",
    "models",
    "ops",
    "schedules",
    "training",
]
