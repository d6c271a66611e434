"""The one runner: `KERAS_BACKEND=jax python -m benchmarks lenet-accuracy [options]`, from the project's root."""

import os
import sys
from typing import Literal

import tyro

if "KERAS_BACKEND" not in os.environ:
    sys.exit("error: name the backend to measure: KERAS_BACKEND=jax|tensorflow|torch.")

from benchmarks import (
    alexnet_accuracy,
    alexnet_rate,
    checkpoint_overhead,
    claims,
    depth,
    distillation,
    fit_overhead,
    hand_written_loop,
    kill_and_resume,
    layers,
    lenet_accuracy,
    precision,
    suggested_rate,
    transformer,
)
from benchmarks.faults import bench

_TABLES = {"results": claims.results, "claims": claims.table, "layers": layers.summary, "faults": bench.summary}


def table(which: tyro.conf.Positional[Literal["results", "claims", "layers", "faults"]] = "claims") -> None:
    """Prints kept rows as a Markdown table: what the apps reach, claims and targets, layers, or faults."""
    print(_TABLES[which](), end="")


if __name__ == "__main__":  # Not in the processes that a benchmark starts.
    tyro.extras.subcommand_cli_from_dict(
        {
            "lenet-accuracy": lenet_accuracy.main,
            "alexnet-accuracy": alexnet_accuracy.main,
            "alexnet-rate": alexnet_rate.main,
            "image-pipeline": alexnet_rate.pipeline,
            "depth": depth.main,
            "layers": layers.main,
            "fit-overhead": fit_overhead.main,
            "hand-written-loop": hand_written_loop.main,
            "checkpoint-overhead": checkpoint_overhead.main,
            "kill-and-resume": kill_and_resume.main,
            "precision": precision.main,
            "distillation-steps": distillation.steps,
            "distillation-memory": distillation.memory,
            "distillation-labels": distillation.labels,
            "transformer-loss": transformer.loss,
            "transformer-steps": transformer.steps,
            "transformer-writing": transformer.writing,
            "faults": bench.main,
            "suggested-rate": suggested_rate.main,
            "all": claims.run_all,
            "table": table,
        },
        description=__doc__,
    )
