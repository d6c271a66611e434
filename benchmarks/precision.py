"""Claim: half precision comes within 2 % of float32's loss after the same steps; on a GPU, what it gains.

Each policy trains the same model from the same bits on the same batches of digits with the three callbacks, in a
process of its own, for a peak of memory is that of a process. The first epoch, which compiles, is not timed.
"""

import time
from collections.abc import Callable
from typing import Any, Literal

import keras

from benchmarks._own_process import in_own_process
from benchmarks._results import append_row
from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches, load_images
from kerasblocks.models import lenet5
from kerasblocks.training import environment, peak_memory

Case = Literal["lenet5", "lenet5 of 1998"]
_MODELS: dict[Case, Callable[[tuple[int, int, int], int], keras.Model]] = {
    "lenet5": lambda shape, classes: lenet5(shape, classes, "modern", seed=0),
    "lenet5 of 1998": lambda shape, classes: lenet5(shape, classes, "1998", seed=0),
}
_DISTANCE = 0.02  # of the losses, relative
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_FIRST_SCALE = 1024.0  # Keras's own makes a network's first steps overflow, and those that it skips would be missing.


def main(cases: tuple[Case, ...] = ("lenet5",), epochs: int = 20, batch_size: int = 128) -> None:
    """Measures loss, images a second and peak memory in each precision.

    Args:
        cases: which models.
        epochs: passes over the 1,437 training images, two at least.
        batch_size: images in a step.
    """
    if epochs < 2:
        raise ValueError(f"epochs must be at least 2, for the first is not timed; got {epochs}.")
    for case in cases:
        found = [in_own_process(_trained, case, policy, epochs, batch_size) for policy in _POLICIES]
        whole = found[0][1]
        for facts, row in found:
            ratio = row["loss"] / whole["loss"]
            speed = row["images_per_second"] / whole["images_per_second"]
            judged = {"loss_ratio": round(ratio, 4), "met": abs(ratio - 1) <= _DISTANCE, "speed_ratio": round(speed, 3)}
            append_row("precision", facts, row | judged)


def _trained(case: Case, policy: str, epochs: int, batch_size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    data = load_images("digits", image_size=32)
    model = _MODELS[case](data.image_shape, data.num_classes)
    optimizer: Any = keras.optimizers.AdamW(1e-3)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=_FIRST_SCALE)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = ArrayBatches(data.x_train, data.y_train, batch_size=batch_size, drop_remainder=True)
    marks: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter()))
    callbacks = [WarmupCosine(), GradientNormLogger(), TerminateOnNaN(raise_error=True), clock]
    history = model.fit(batches, epochs=epochs, verbose=0, callbacks=callbacks)
    peak = peak_memory()["device"]
    return environment(), {
        "case": case,
        "policy": policy,
        "batch_size": batch_size,
        "steps": epochs * len(batches),
        "loss": round(history.history["loss"][-1], 5),
        "images_per_second": round((epochs - 1) * len(batches) * batch_size / (marks[-1] - marks[0])),
        "peak_megabytes": None if peak is None else round(peak / 1e6, 1),
    }
