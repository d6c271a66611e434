"""The one runner: `KERAS_BACKEND=jax python -m benchmarks lenet-accuracy [options]`, from the project's root."""

import tyro

from benchmarks import lenet_accuracy

tyro.extras.subcommand_cli_from_dict({"lenet-accuracy": lenet_accuracy.main}, description=__doc__)
