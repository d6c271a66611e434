"""Why a model does not train: the debugging checklist, run on any compiled Keras model and its data."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from kerasblocks._arguments import as_integer, as_number
from kerasblocks._progress import progress
from kerasblocks.data._batch_source import BatchSource, validation_source
from kerasblocks.diagnostics._case import LATER, BudgetError, Case
from kerasblocks.diagnostics.checks import CHECKS
from kerasblocks.diagnostics.finding import Finding, not_applicable, told_of, warned
from kerasblocks.diagnostics.learning_rate_sweep import compiled_rate, rate_after
from kerasblocks.diagnostics.report import CheckupReport, ordered
from kerasblocks.training import environment, left_as_it_was
from kerasblocks.training.left_as_it_was import compiled_optimizer

_NOT_RUN = "The check could not be run: "
# Those that take longest come last, so that a small budget is spent on the many.
_LAST = ("overfit_tiny_subset", "learning_rate", "gradient_noise")


def checkup(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    validation_data: Any = None,
    checks: str | Sequence[str] = "all",
    budget_seconds: float = 60,
    batch_size: int = 32,
    seed: int = 0,
    verbose: int = 1,
) -> CheckupReport:
    """Runs the checks of data, model, signal, learning and, of a trained model, of what came out.

    Afterwards the model, its optimizer, the seeds and the compiled functions are what they were, bit for bit, also
    where a check raises or the budget ends.

    Args:
        model: a compiled model.
        x: arrays; or batches as `fit` takes them: a `PyDataset`, a `tf.data.Dataset`, a `DataLoader`, or a function
            that returns an iterator over batches.
        y: labels, where x is arrays.
        sample_weight: weights, where x is arrays.
        validation_data: `(x, y)` arrays, or batches likewise.
        checks: `"all"`, or the names of some (`kerasblocks.diagnostics.CHECKS`).
        budget_seconds: checks for which no time is left are not applicable.
        batch_size: samples in a batch, where x is arrays; take the one that you train with.
        seed: of the choice of samples.
        verbose: 0 prints nothing, 1 the table of findings and, on a terminal, how far the checks are.

    Returns:
        A `CheckupReport`.

    Raises:
        ValueError: a model that is not compiled, unknown checks, a generator that can be run through once only,
            validation arrays of other shapes.

    Source: the checklist follows Karpathy, "A recipe for training neural networks", 2019; each check names its own.

    Example:

    >>> import keras, numpy as np
    >>> from kerasblocks.diagnostics import checkup
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 8)).astype("float32")
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax")])
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> report = checkup(model, x, x[:, :3].argmax(1), checks=["output_activation", "gradients"], verbose=0)
    >>> [(each.check, each.verdict) for each in report.findings]
    [('output_activation', 'fail'), ('gradients', 'pass')]
    """
    chosen = _chosen(checks)
    seed, batch_size = as_integer("seed", seed, least=0), as_integer("batch_size", batch_size, least=1)
    budget = as_number("budget_seconds", budget_seconds)
    if budget <= 0:
        raise ValueError(f"budget_seconds must be positive; got {budget_seconds!r}.")
    if verbose not in (0, 1):
        raise ValueError(f"verbose must be 0 or 1; got {verbose!r}.")
    source = BatchSource(x, y, sample_weight, batch_size=batch_size, seed=seed)
    validation = None if validation_data is None else validation_source(validation_data, seed=seed)
    if validation is not None and source.are_arrays and validation.are_arrays:
        shapes = [[leaf.shape[1:] for leaf in keras.tree.flatten(each.arrays[0])] for each in (source, validation)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Training and validation inputs must have equal shapes; got {shapes[0]} and {shapes[1]}.")
    start = time.monotonic()
    optimizer = compiled_optimizer(model)
    rate, is_trained = compiled_rate(optimizer), bool(keras.ops.convert_to_numpy(optimizer.iterations) > 0)
    first = next(source.batches())
    batch = tuple(part for part in first if part is not None)
    # At the largest rate in each step, so that a warmup hides nothing.
    with left_as_it_was(model, batch, learning_rate=rate, accumulates=False) as go_back:
        case = Case(
            model,
            source,
            validation,
            seed=seed,
            batch_size=batch_size if source.are_arrays else len(keras.tree.flatten(first[0])[0]),
            is_trained=is_trained,
            deadline=start + budget,
            rate_later=rate_after(optimizer, LATER),
            go_back=go_back,
        )
        found = {}
        with progress(len(chosen), "check") if verbose else contextlib.nullcontext(lambda: None) as advance:
            for name in sorted(chosen, key=lambda name: name in _LAST):
                found[name] = _finding(case, name)
                advance()
    if any(each.verdict == "fail" for each in found.values()):  # which explains what could not be run
        found = {
            name: dataclasses.replace(each, verdict="not applicable", remedy="") if _is_error(each) else each
            for name, each in found.items()
        }
    report = CheckupReport(ordered([found[name] for name in chosen]), time.monotonic() - start, environment())
    if verbose:
        report.print()
    return report


def _chosen(checks: str | Sequence[str]) -> list[str]:
    if checks == "all":
        return list(CHECKS)
    names = [checks] if isinstance(checks, str) else list(checks)
    unknown = [name for name in names if name not in CHECKS]
    if unknown or not names:
        raise ValueError(f"checks must be 'all' or of {', '.join(CHECKS)}; got {checks!r}.")
    return [name for name in CHECKS if name in names]


def _is_error(finding: Finding) -> bool:
    return finding.message.startswith(_NOT_RUN)


def _finding(case: Case, name: str) -> Finding:
    begin = time.monotonic()
    try:
        case.check_budget()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras's, many times; the findings say it.
            found = CHECKS[name](case)
    except BudgetError:
        found = not_applicable("There was no time left.")
    except Exception as error:  # of the user's model or data, which the other checks may explain
        found = warned(f"{_NOT_RUN}{told_of(error)}", "See whether fit runs with these data.")
    case.go_back()
    return dataclasses.replace(found, check=name, seconds=time.monotonic() - begin)
