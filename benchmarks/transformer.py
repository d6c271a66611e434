"""Claims of the small transformer: loss after nanoGPT's steps on tinyshakespeare, time of a step, speed of writing."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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

    Args:
        nanogpt: a checkout of nanoGPT, whose model.py is imported.
        blocks: how many paired blocks.
    """
    tokens = np.random.default_rng(0).integers(0, _VOCABULARY, 100_000)
    model = transformer_lm("tiny", vocabulary_size=_VOCABULARY, seed=0)
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = TokenBatches(tokens, context=_CONTEXT, batch_size=_BATCH, steps=_STEPS)
    fits: dict[str, Callable[[], float]] = {"ours": seconds_of_a_step(model, [], _STEPS, batches)}
    fits |= {name: _of_nanogpt(nanogpt, tokens) for name in ("other", "again")}
    row = {"parameters": model.count_params(), "steps_a_block": _STEPS - FIRST, **ratios(take_turns(fits, blocks))}
    append_row(
        "transformer_steps", environment(), {**row, "bar": 1.5 if keras.backend.backend() == "tensorflow" else 1}
    )


def _of_nanogpt(folder: Path, tokens: np.ndarray) -> Callable[[], float]:
    """Returns a function that takes steps as nanoGPT's train.py does and returns the seconds of one."""
    import torch

    sys.path.insert(0, str(folder))
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    torch.manual_seed(1337)
    sizes = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": _CONTEXT, "vocab_size": _VOCABULARY}
    model = GPT(GPTConfig(dropout=0.0, bias=False, **sizes))
    optimizer = model.configure_optimizers(1e-1, 1e-3, (0.9, 0.99), "cpu")

    def batch() -> tuple[Any, Any]:
        starts = torch.randint(len(tokens) - _CONTEXT, (_BATCH,))
        rows = [torch.from_numpy(tokens[start : start + _CONTEXT + 1]) for start in starts]
        return torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])

    def run() -> float:
        begin, (x, y) = 0.0, batch()
        for number in range(_STEPS):
            if number == FIRST:
                begin = time.perf_counter()
            _, value = model(x, y)
            x, y = batch()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return (time.perf_counter() - begin) / (_STEPS - FIRST)

    return run


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
