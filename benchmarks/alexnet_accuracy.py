"""Claim: the AlexNet app reaches 0.62 on 12,000 small photographs in 10 classes, within 40 minutes on 2 cores.

Each case runs the app as a user does, once a seed, on the backend that KERAS_BACKEND names. The target is for the mean
over the seeds, the time for the slowest.
"""

import statistics
from pathlib import Path

from benchmarks._apps import run_app
from benchmarks._results import append_row

_TARGET, _SECONDS = 0.62, 2400


def main(
    data: Path, seeds: int = 1, image_size: int = 127, width: float = 0.5, epochs: int = 20, batch_size: int = 64
) -> None:
    """Measures the test accuracy of the AlexNet app with its modern recipe.

    Args:
        data: folder with train and test, each with one folder of images a class: 10,000 and 2,000 of CIFAR-10's.
        seeds: how many seeds, from 0.
        image_size: pixels a side.
        width: factor of the maps and hidden units.
        epochs: passes over the training images.
        batch_size: images in a step.
    """
    options = {"image-size": image_size, "width": width, "epochs": epochs, "batch-size": batch_size}
    given = [str(each) for name, value in options.items() for each in (f"--{name}", value)]
    runs = [run_app("alexnet", ["--data", str(data), *given, "--seed", str(seed)]) for seed in range(seeds)]
    accuracies = [metrics["test_accuracy"] for _, metrics in runs]
    seconds = max(metrics["seconds"] for _, metrics in runs)
    config, mean = runs[0][0], statistics.mean(accuracies)
    augmentation = config["augmentation"]
    append_row(
        "alexnet_accuracy",
        config["environment"],
        {
            "images": f"{config['data']['train_images']} and {config['data']['test_images']}",
            "settings": ", ".join(f"{name} {value}" for name, value in options.items()),
            "augmentation": f"{augmentation['kind']} by {augmentation['library']}",
            "n": seeds,
            "test_accuracy": round(mean, 4),
            "lowest": min(accuracies),
            "highest": max(accuracies),
            "target": _TARGET,
            "longest_seconds": round(seconds),
            "met": mean >= _TARGET and seconds <= _SECONDS,
        },
    )
