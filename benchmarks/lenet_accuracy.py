"""Claim: the LeNet app reaches 0.97 (modern) and 0.95 (1998) on digits, and 0.90 on Fashion-MNIST in 15 epochs.

Each case runs the app as a user does, once a seed, on the backend that KERAS_BACKEND names. The targets are for
the mean over the seeds.
"""

import statistics
from pathlib import Path

from benchmarks._apps import run_app
from benchmarks._results import append_row


def main(fashion: Path | None = None, seeds: int = 3) -> None:
    """Measures the test accuracy of the LeNet app.

    Args:
        fashion: folder with Fashion-MNIST's four IDX files; without it that case is left out.
        seeds: how many seeds, from 0.
    """
    cases = {
        "digits, modern": (["--variant", "modern"], 0.97),
        "digits, 1998": (["--variant", "1998"], 0.95),
    }
    if fashion is not None:
        options = ["--data", str(fashion), "--epochs", "15", "--batch-size", "128", "--label-smoothing", "0"]
        cases["fashion-mnist, modern, 15 epochs, batch 128, no label smoothing"] = (options, 0.90)
    for case, (options, target) in cases.items():
        runs = [run_app("lenet", [*options, "--seed", str(seed)]) for seed in range(seeds)]
        accuracies = [metrics["test_accuracy"] for _, metrics in runs]
        mean = statistics.mean(accuracies)
        append_row(
            "lenet_accuracy",
            runs[0][0]["environment"],
            {
                "case": case,
                "n": seeds,
                "test_accuracy": round(mean, 4),
                "lowest": round(min(accuracies), 4),
                "highest": round(max(accuracies), 4),
                "target": target,
                "met": mean >= target,
                "training_seconds": round(statistics.mean(metrics["seconds"] for _, metrics in runs), 1),
            },
        )
