"""`python -m kerasblocks`: versions, the backends that are installed, devices, and what trains in which precision."""

import importlib.metadata
import importlib.util

import keras
import numpy as np

from kerasblocks.training import environment

_BACKENDS = {"jax": ("jax",), "tensorflow": ("tensorflow", "tensorflow-cpu"), "torch": ("torch",)}
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_EXTRAS = {
    "apps": ("tyro", "sklearn", "matplotlib", "PIL", "rich", "tensorboardX"),
    "text": ("tokenizers",),
    "cv": ("keras_cv", "tensorflow"),
}


def main() -> None:
    """Prints what a report of a fault should begin with."""
    found = environment()
    print(f"kerasblocks {found['kerasblocks']}, Keras {found['keras']}, NumPy {found['numpy']}")  # noqa: T201
    print(f"Python {found['python']}, {found['platform']}")  # noqa: T201
    backends = ", ".join(f"{name} {_version(name)}" for name in _BACKENDS)
    print(f"backends: {backends}; in use: {found['backend']} (KERAS_BACKEND chooses)")  # noqa: T201
    print(f"devices of {found['backend']}: {', '.join(found['devices'])}")  # noqa: T201
    print(f"a training step: {', '.join(f'{policy} {_trains(policy)}' for policy in _POLICIES)}")  # noqa: T201
    print(f"extras: {', '.join(f'{extra} {_state(modules)}' for extra, modules in _EXTRAS.items())}")  # noqa: T201


def _version(backend: str) -> str:
    for name in _BACKENDS[backend]:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _trains(policy: str) -> str:
    """Returns "works", or why one step of a small model in this policy does not."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, dtype=policy), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.compile("adam", "mse")
    try:
        loss = model.train_on_batch(np.ones((4, 8, 8, 1), "float32"), np.ones((4, 2), "float32"))
    except Exception as error:  # of the framework, of whatever kind
        return f"fails ({type(error).__name__})"
    return "works" if np.isfinite(loss) else "is not finite"


def _state(modules: tuple[str, ...]) -> str:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"lacks {' '.join(missing)}" if missing else "installed"


if __name__ == "__main__":
    main()
