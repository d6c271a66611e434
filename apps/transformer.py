"""Train a small language model on English text, or on your own files, with any Keras backend; let it write.

    python apps/transformer.py                                    # Python's own help texts, some minutes on 2 cores
    python apps/transformer.py --data FILE FILE --tokenizer bpe   # text files, with byte-pair encoding
    python apps/transformer.py --configuration small              # nanoGPT's setting for a GPU
    python apps/transformer.py --generate "The statement"         # continue a text with the newest run

A run leaves config.json, tokenizer.json, history.csv, samples.txt, metrics.json, curves.png, model.keras, checkpoints
and TensorBoard event files in its run directory; one that is stopped by numbers that are not finite leaves
nonfinite.json. One that was interrupted or killed goes on when it is started again with its run directory.
"""

import dataclasses
import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any, Literal

from _launch import user_errors

with user_errors():
    from _options import RunOptions, end_if_not_finite, new_directory, newest_run, peak_of_run, start, train_on_devices


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Train a language model, or write with a trained one."""

    data: tuple[Path, ...] = ()
    """Text files in UTF-8, joined in this order; without, Python's help texts."""
    tokenizer: Literal["characters", "bytes", "bpe"] = "characters"
    """What a token is: a character, a byte, or a frequent run of bytes (needs the package tokenizers)."""
    vocabulary_size: int | None = None
    """With --tokenizer bpe: how many tokens there are; 4,096 by default."""
    configuration: Literal["tiny", "small", "gpt2"] = "tiny"
    """Sizes: tiny (0.65 million parameters), small (nanoGPT's for a GPU, 10.6), gpt2 (124)."""
    context: int | None = None
    """Tokens that the model sees at a time; by default those of the configuration: 64, 256, 1,024."""
    dropout: float | None = None
    """Rate of dropout; by default that of the configuration: 0, 0.2, 0."""
    remat: bool = False
    """Compute the blocks' activations anew in the backward pass, for less memory."""
    steps: int = 1000
    """Updates of the weights."""
    evaluate_every: int = 250
    """Steps between evaluations on the whole validation text, each with a sample of writing."""
    batch_size: int = 12
    """Texts in a step, each as long as the context."""
    peak_learning_rate: float = 0.005
    """AdamW's learning rate at the end of the warmup."""
    warmup: float = 0.05
    """Part of all steps in which the learning rate rises to its peak; then it falls to 0 along a cosine."""
    weight_decay: float = 0.1
    """AdamW's weight decay, times the learning rate; not applied to scales."""
    generate: str | None = None
    """Continue this text with the trained model of the run directory, by default the newest runs/transformer-*."""
    length: int = 500
    """Tokens that are written: with --generate, and in samples."""
    temperature: float = 0.8
    """Of what is written: 0 takes the likeliest token, 1 draws by the model's own probabilities."""
    top_p: float = 0.95
    """Of what is written: tokens are drawn among the likeliest with so much probability together."""

    def __post_init__(self) -> None:
        """Refuses values that no run can use, and options that would go unused."""
        sizes = ("context", "steps", "evaluate_every", "batch_size", "vocabulary_size", "length")
        self.check_positive(*sizes, "peak_learning_rate", "top_p")
        if self.context == 1:
            raise ValueError("context must be at least 2, for the model to see what came before; got 1.")
        for name, largest in (("warmup", 1), ("weight_decay", math.inf), ("temperature", math.inf)):
            if not 0 <= getattr(self, name) <= largest or math.isinf(getattr(self, name)):
                raise ValueError(f"{name} must lie in 0..{largest:g}; got {getattr(self, name)}.")
        if self.vocabulary_size is not None and self.tokenizer != "bpe":
            raise ValueError(f"vocabulary_size has no effect with tokenizer {self.tokenizer}.")
        if self.generate is not None:
            if not self.generate:
                raise ValueError("generate needs a text to go on with; got an empty one.")
            used = {"generate", "length", "temperature", "top_p", "seed", "backend", "run_directory"}
            for field in dataclasses.fields(self):
                if field.name not in used and getattr(self, field.name) != field.default:
                    raise ValueError(f"{field.name} has no effect with generate.")
        elif self.steps % self.evaluate_every:
            raise ValueError(f"steps must be a multiple of evaluate_every; got {self.steps} and {self.evaluate_every}.")


def train(config: Config, is_first: bool) -> None:
    """Trains, evaluates and leaves a run directory; the first of several processes writes it."""
    import keras
    import numpy as np

    from kerasblocks.callbacks import GradientNormLogger, TensorBoardScalars, TerminateOnNaN, WarmupCosine
    from kerasblocks.data import TokenBatches, TokenWindows, load_text
    from kerasblocks.diagnostics import plot_learning_curves
    from kerasblocks.models import CONFIGURATIONS, generate, transformer_lm
    from kerasblocks.training import Run, exclude_vectors_from_weight_decay, peak_memory

    # Data: random windows to train on, the whole validation text in order.
    sizes = CONFIGURATIONS[config.configuration]
    directory, context = config.run_directory or new_directory("transformer"), config.context or sizes.context
    config = dataclasses.replace(config, run_directory=directory, context=context)
    with user_errors():
        text = load_text(config.data or "topics", config.tokenizer, vocabulary_size=config.vocabulary_size)
        tokenizer, train_tokens, validation = (
            text.tokenizer,
            text.train[: config.limit],
            text.validation[: config.limit],
        )
        batches = TokenBatches(
            train_tokens, context=context, batch_size=config.batch_size, steps=config.evaluate_every, seed=config.seed
        )
        windows = TokenWindows(validation, context=context, batch_size=max(config.batch_size, 8192 // context))

    # Model: weights drawn by NumPy, the same on every backend.
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    with user_errors():
        model = transformer_lm(
            config.configuration,
            vocabulary_size=tokenizer.vocabulary_size,
            dropout=config.dropout,
            remat=config.remat,
            seed=config.seed,
        )

    # Optimizer: no decay of scales, gradients clipped to a norm of 1.
    optimizer = keras.optimizers.AdamW(
        config.peak_learning_rate, weight_decay=config.weight_decay, beta_2=0.99, global_clipnorm=1.0
    )
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    # Fit: warmup, then cosine to 0. What was interrupted goes on. Each epoch ends with a sample of writing.
    facts = {
        "options": config.deciding(),
        "data": {
            "source": text.source,
            "fingerprint": text.fingerprint,
            "tokens": [len(train_tokens), len(validation)],
        },
        "tokenizer": tokenizer.get_config()["kind"],
        "vocabulary_size": tokenizer.vocabulary_size,
        "parameters": model.count_params(),
    }

    class Samples(keras.callbacks.Callback):
        """Writes text after each epoch, from where the validation text begins."""

        only_writes = True

        def __init__(self) -> None:
            super().__init__()
            self.texts: list[str] = []

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            written = generate(
                self.model,
                validation[:16],
                config.length,
                temperature=config.temperature,
                top_p=config.top_p,
                seed=config.seed,
                context=context,
            )
            steps = (epoch + 1) * config.evaluate_every
            self.texts.append(f"--- after {steps} steps\n{tokenizer.decode(written)}\n")
            with run.directory.writing("samples.txt") as file:
                file.write_text("\n".join(self.texts), encoding="utf-8")
            print(f"\n{self.texts[-1]}", flush=True)

        def state_dict(self) -> dict[str, Any]:
            return {"texts": self.texts}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.texts = list(state["texts"])

    with user_errors():
        run = Run(directory, every_steps=config.checkpoint_steps, config=facts, overwrite=config.overwrite)
        path = run.directory.path
        if is_first:
            print(
                f"{len(train_tokens):,} training and {len(validation):,} validation tokens of {text.source}, "
                f"{model.count_params():,} parameters; run {path}"
            )
        guard = TerminateOnNaN(report_path=path / "nonfinite.json")
        history = run.fit(
            model,
            batches,
            epochs=config.steps // config.evaluate_every,
            validation_data=windows,
            callbacks=[
                WarmupCosine(warmup=config.warmup),
                GradientNormLogger(per_variable=False),
                guard,
                TensorBoardScalars(path / "events"),
                Samples(),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    end_if_not_finite(guard, is_first)
    if not is_first:
        return

    # Report: the mean over every token of the validation text but the first.
    loss = model.evaluate(windows, verbose=0)
    run.directory.write_json("tokenizer.json", tokenizer.get_config())
    with run.directory.writing("model.keras") as file:
        model.save(file)
    with run.directory.writing("curves.png") as file:
        plot_learning_curves(history.history, file)
    characters = tokenizer.count_characters(np.asarray(validation[1:]))
    metrics = {
        "validation_loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_character": loss / math.log(2) * windows.num_predicted / characters,
        "seconds": run.seconds,
        "tokens_per_second": config.steps * config.batch_size * context / run.seconds,
        "peak_memory_bytes": peak_of_run(run.directory, peak_memory()),
    }
    run.directory.write_json("metrics.json", metrics)
    print(
        f"validation loss {loss:.4f}, perplexity {metrics['perplexity']:.2f}, "
        f"{metrics['bits_per_character']:.3f} bits per character, {run.seconds:.1f} s; see {path}"
    )


def write(config: Config, prompt: str) -> None:
    """Prints the prompt and what the model makes of it."""
    import keras

    from kerasblocks.data import tokenizer_of
    from kerasblocks.models import generate
    from kerasblocks.training import read_run_config

    with user_errors():
        directory = config.run_directory or newest_run("transformer")
        options = read_run_config(directory).get("options", {})
        known = directory / "tokenizer.json"
        if "context" not in options or not known.is_file() or not zipfile.is_zipfile(directory / "model.keras"):
            raise ValueError(f"{directory}: no finished run of this app: its model or tokenizer is not whole.")
        tokenizer = tokenizer_of(json.loads(known.read_text(encoding="utf-8")))
        prompt_ids = tokenizer.encode(prompt)
        model = keras.saving.load_model(directory / "model.keras")
        written = generate(
            model,
            prompt_ids,
            config.length,
            temperature=config.temperature,
            top_p=config.top_p,
            seed=config.seed,
            context=options["context"],
        )
    print(tokenizer.decode(written))


if __name__ == "__main__":
    start(
        Config,
        __doc__,
        lambda config: train_on_devices(config, train) if config.generate is None else write(config, config.generate),
    )
