"""The one runner: `KERAS_BACKEND=jax python -m benchmarks lenet-accuracy [options]`, from the project's root."""

import os
import sys
from typing import Literal

import tyro

if "KERAS_BACKEND" not in os.environ:
    sys.exit("error: name the backend to measure: KERAS_BACKEND=jax|tensorflow|torch.")

from benchmarks import (
    checkpoint_overhead,
    depth,
    distillation,
    fit_overhead,
    kill_and_resume,
    layers,
    lenet_accuracy,
    precision,
    transformer,
)
from benchmarks._results import as_markdown


def table(benchmark: Literal["lenet_accuracy", "layers"] = "lenet_accuracy") -> None:
    """Prints the kept rows of a benchmark as the Markdown table that stands in the README."""
    print(layers.summary() if benchmark == "layers" else as_markdown(benchmark), end="")


if __name__ == "__main__":  # Not in the processes that a benchmark starts.
    tyro.extras.subcommand_cli_from_dict(
        {
            "lenet-accuracy": lenet_accuracy.main,
            "depth": depth.main,
            "layers": layers.main,
            "fit-overhead": fit_overhead.main,
            "checkpoint-overhead": checkpoint_overhead.main,
            "kill-and-resume": kill_and_resume.main,
            "precision": precision.main,
            "distillation-steps": distillation.steps,
            "distillation-memory": distillation.memory,
            "distillation-labels": distillation.labels,
            "transformer-loss": transformer.loss,
            "transformer-steps": transformer.steps,
            "transformer-writing": transformer.writing,
            "table": table,
        },
        description=__doc__,
    )
