"""A process that augments batches with Keras's or keras-cv's layers: a script that answers requests.

A request is a line of JSON and the bytes of float32 images and labels; so is the answer. The numbers are those of
`keras.utils.set_random_seed`, so that they are the same in every process with this backend.
"""

import json
import math
import os
import sys
import traceback
from typing import IO, Any

import numpy as np

MIXUP_ALPHA, CUTMIX_ALPHA, OPERATIONS, MAGNITUDE = 0.2, 1.0, 2, 0.5


def layer_of(kind: str, library: str, seed: int) -> Any:
    """Returns a new layer, whose random state nothing has moved."""
    if library == "keras-cv":
        import keras_cv

        if kind == "mixup":
            return keras_cv.layers.MixUp(alpha=MIXUP_ALPHA, seed=seed)
        if kind == "cutmix":
            return keras_cv.layers.CutMix(alpha=CUTMIX_ALPHA, seed=seed)
        return keras_cv.layers.RandAugment(
            (0.0, 1.0), augmentations_per_image=OPERATIONS, magnitude=MAGNITUDE, seed=seed
        )
    import keras

    ours: dict[str, Any] = {
        "seed": seed,
        "data_format": "channels_last",
        "dtype": "float32",
    }  # whatever keras.json says
    if kind == "mixup":
        return keras.layers.MixUp(MIXUP_ALPHA, **ours)
    if kind == "cutmix":
        return keras.layers.CutMix((CUTMIX_ALPHA, CUTMIX_ALPHA), **ours)
    return keras.layers.RandAugment((0.0, 1.0), num_ops=OPERATIONS, factor=MAGNITUDE, **ours)


def augmented(kind: str, library: str, seed: int, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Returns images, and labels if there are any, as the layer gives them."""
    import keras

    keras.utils.set_random_seed(seed)  # keras-cv draws from the global generators too
    layer = layer_of(kind, library, seed)
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    if len(tensors) == 1:
        return [keras.ops.convert_to_numpy(layer(tensors[0], training=True))]
    names = ("images", "labels")
    found = layer(dict(zip(names, tensors, strict=True)), training=True)
    return [keras.ops.convert_to_numpy(found[name]) for name in names]


def write(stream: IO[bytes], head: dict[str, Any], arrays: list[np.ndarray]) -> None:
    """Writes a message."""
    shapes = [array.shape for array in arrays]
    stream.write(json.dumps(head | {"shapes": shapes}).encode() + b"\n")
    for array in arrays:
        stream.write(np.ascontiguousarray(array, "float32").data)
    stream.flush()


def read(stream: IO[bytes]) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Reads a message; returns None at the end."""
    line = stream.readline()
    if not line:
        return None
    head = json.loads(line)
    arrays = []
    for shape in head.pop("shapes"):
        size = 4 * math.prod(shape)
        content = stream.read(size)
        if len(content) < size:
            return None
        arrays.append(np.frombuffer(content, "float32").reshape(shape).copy())
    return head, arrays


def main(library: str) -> None:
    """Answers until the other side closes."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes with the errors
    while (request := read(requests)) is not None:
        head, arrays = request
        try:
            answer = augmented(head["kind"], library, head["seed"], arrays)
        except Exception as error:  # told to the one who asked
            traceback.print_exc()
            write(answers, {"error": f"{type(error).__name__}: {error}"}, [])
        else:
            write(answers, {}, answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
