"""Claim: AlexNet of full size trains on batches of 128 at 227 pixels within 24 GB; beside it, what its input takes.

Each policy trains in a process of its own on one batch of random images; the pipeline decodes JPEG files of 640 x 427
pixels, which are made here from scikit-learn's photographs, as the app does for training, with no model at all.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from benchmarks._own_process import in_own_process
from benchmarks._results import append_row
from kerasblocks.data import AugmentedBatches, ImageBatches, colour_components
from kerasblocks.models import alexnet, cost
from kerasblocks.training import environment, peak_memory

Policy = Literal["float32", "mixed_bfloat16", "mixed_float16"]
Augmentation = Literal["none", "randaugment", "mixup", "cutmix"]
_LIMIT_GB = 24.0


def main(
    policies: tuple[Policy, ...] = ("float32", "mixed_bfloat16", "mixed_float16"),
    batch_size: int = 128,
    image_size: int = 227,
    steps: int = 5,
) -> None:
    """Measures training steps of the AlexNet of 2012.

    Args:
        policies: precisions.
        batch_size: images in a step.
        image_size: pixels a side.
        steps: steps that are timed, after two that are not.
    """
    for policy in policies:
        facts, row = in_own_process(_trained, policy, batch_size, image_size, steps)
        append_row("alexnet_rate", facts, row)


def _trained(policy: Policy, batch_size: int, image_size: int, steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    keras.config.set_dtype_policy(policy)
    shape = (image_size, image_size, 3)
    model = alexnet(shape, weight_decay=5e-4, seed=0)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    rng = np.random.default_rng(0)
    batch = rng.normal(0, 60, (batch_size, *shape)).astype("float32"), rng.integers(0, 1000, batch_size)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        model.train_on_batch(*batch)  # returns the loss as a number: it waits for the device
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[2:])
    memory = peak_memory()
    most = memory["device"] or memory["process"] or 0
    return environment(), {
        "policy": policy,
        "batch_size": batch_size,
        "image_size": image_size,
        "step_seconds": round(step, 4),
        "shortest": round(min(seconds[2:]), 4),
        "longest": round(max(seconds[2:]), 4),
        "images_per_second": round(batch_size / step, 1),
        "tflop_per_second": round(6 * cost(model).multiply_adds * batch_size / step / 1e12, 3),
        "peak_gb": round(most / 1e9, 2),
        "limit_gb": _LIMIT_GB,
        "met": 0 < most <= _LIMIT_GB * 1e9,
    }


def pipeline(
    image_size: int = 227,
    batch_size: int = 128,
    files: int = 512,
    threads: int | None = None,
    augmentations: tuple[Augmentation, ...] = ("none", "mixup", "cutmix", "randaugment"),
    library: Literal["keras-cv", "keras"] = "keras-cv",
) -> None:
    """Measures the batches of photographs that the AlexNet app trains on, without a model.

    Args:
        image_size: pixels a side.
        batch_size: images in a batch.
        files: photographs in an epoch.
        threads: how many decode; by default as many as there are processors.
        augmentations: beside crops, mirror images and colour jitter.
        library: whose layers augment.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = _photographs(Path(folder), files)
        colours = colour_components(paths[:64])
        for kind in augmentations:
            batches: Any = ImageBatches(
                paths,
                np.arange(files) % 10,
                image_size=image_size,
                batch_size=batch_size,
                random_crop=True,
                mirror=True,
                colour_jitter=0.1,
                colours=colours,
                num_classes=10,
                threads=threads,
            )
            if kind != "none":
                batches = AugmentedBatches(batches, kind, library=library)
            seconds = []
            for epoch in range(4):
                start = time.perf_counter()
                for _ in batches.iterate(epoch):
                    pass
                seconds.append(time.perf_counter() - start)
            rates = sorted(files / each for each in seconds[1:])
            append_row(
                "image_pipeline",
                environment(),
                {
                    "image_size": image_size,
                    "augmentation": kind if kind == "none" else f"{kind} by {library}",
                    "images_per_second": round(statistics.median(rates), 1),
                    "slowest_epoch": round(rates[0], 1),
                    "fastest_epoch": round(rates[-1], 1),
                },
            )


def _photographs(folder: Path, count: int) -> list[Path]:
    """Writes crops of the two photographs as JPEG files."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    images = [Image.fromarray(each).resize((704, 470)) for each in load_sample_images().images]
    paths = []
    for number in range(count):
        left, top = int(rng.integers(0, 64)), int(rng.integers(0, 43))
        paths.append(folder / f"{number}.jpg")
        images[number % 2].crop((left, top, left + 640, top + 427)).save(paths[-1], quality=90)
    return paths
