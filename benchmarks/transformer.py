"""Claims of the small transformer: loss after nanoGPT's steps on tinyshakespeare, time of a step, speed of writing."""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks._fits import FIRST, seconds_of_a_step, take_turns
from benchmarks._paired import paired, ratios
from benchmarks._results import append_row
from kerasblocks.data import TokenBatches
from kerasblocks.models import generate, transformer_lm
from kerasblocks.training import environment

_APP = Path(__file__).parents[1] / "apps" / "transformer.py"
_LOSS_BAR, _PARAMETERS = 1.70, 810_000
_VOCABULARY, _CONTEXT, _BATCH, _STEPS = 65, 64, 12, 62


def loss(text: Path, seeds: int = 3) -> None:
    """Measures the validation loss of the app after 2,000 steps of nanoGPT's CPU setting, on the whole last tenth.

    Args:
        text: tinyshakespeare, a file of text.
        seeds: how many seeds, from 0.
    """
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            options = ["--steps", "2000", "--evaluate-every", "500"]
            options += ["--data", str(text), "--seed", str(seed), "--run-directory", folder, "--length", "100"]
            subprocess.run([sys.executable, str(_APP), *options], check=True, stdout=sys.stderr)
            runs.append([json.loads((Path(folder) / name).read_text()) for name in ("config.json", "metrics.json")])
    losses = [metrics["validation_loss"] for _, metrics in runs]
    parameters = runs[0][0]["parameters"]
    row = {"parameters": parameters, "steps": runs[0][0]["options"]["steps"], "n": seeds}
    row |= {
        "loss": round(statistics.mean(losses), 4),
        "lowest": round(min(losses), 4),
        "highest": round(max(losses), 4),
    }
    row |= {"bar": _LOSS_BAR, "met": statistics.mean(losses) <= _LOSS_BAR and parameters <= _PARAMETERS}
    seconds = round(statistics.mean(metrics["seconds"] for _, metrics in runs), 1)
    append_row("transformer_loss", runs[0][0]["environment"], {**row, "seconds": seconds})


def steps(nanogpt: Path, blocks: int = 15) -> None:
    """Measures the time of a step of fit against nanoGPT's own training loop on PyTorch, at its CPU setting.

    That runs in a process of its own, which waits while ours takes its steps.

    Args:
        nanogpt: a checkout of nanoGPT, whose model.py is imported.
        blocks: how many paired blocks.
    """
    tokens = np.random.default_rng(0).integers(0, _VOCABULARY, 100_000)
    model = transformer_lm("tiny", vocabulary_size=_VOCABULARY, seed=0)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = TokenBatches(tokens, context=_CONTEXT, batch_size=_BATCH, steps=_STEPS)
    with _of_nanogpt(nanogpt) as other, _of_nanogpt(nanogpt) as again:
        fits = {"ours": seconds_of_a_step(model, [], _STEPS, batches), "other": other, "again": again}
        found = ratios(take_turns(fits, blocks))
    row = {"parameters": model.count_params(), "steps_a_block": _STEPS - FIRST, **found}
    append_row(
        "transformer_steps", environment(), {**row, "bar": 1.5 if keras.backend.backend() == "tensorflow" else 1}
    )


@contextlib.contextmanager
def _of_nanogpt(folder: Path) -> Iterator[Callable[[], float]]:
    """Gives a function that has nanoGPT's own loop take the steps, and returns the seconds of one."""
    command = [sys.executable, "-m", "benchmarks._nanogpt", str(folder)]
    command += map(str, (_STEPS, FIRST, _VOCABULARY, _CONTEXT, _BATCH))
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], **pipes) as process:
        loop: Any = process
        if "ready\n" not in loop.stdout:  # which reads what nanoGPT says of itself, too
            raise RuntimeError(f"nanoGPT's loop did not start; is {folder} a checkout of it?")

        def seconds() -> float:
            loop.stdin.write("\n")
            loop.stdin.flush()
            return float(loop.stdout.readline())

        yield seconds


def writing(context: int = 256, blocks: int = 5) -> None:
    """Measures tokens a second of `generate` with keys and values kept, against calls on the whole text.

    Args:
        context: length of the text in the end; the prompt is 16 tokens.
        blocks: how many paired blocks.
    """
    model = transformer_lm("small", vocabulary_size=_VOCABULARY, seed=0)
    prompt, new = np.arange(16), context - 16

    def write(cache: bool) -> Callable[[], Any]:
        return lambda: generate(model, prompt, new, seed=0, cache=cache)

    ours, other = write(True), write(False)
    np.testing.assert_array_equal(ours(), other())
    found = paired(ours, other, blocks)
    row = {"parameters": model.count_params(), "context": context, **found}
    row |= {"tokens_a_second": round(1e3 * new / found["ours_ms"]), "speed": round(1 / found["ratio"], 2), "bar": 5}
    append_row("transformer_writing", environment(), row)
