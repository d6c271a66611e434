"""Whether batches hold a mixture of the classes."""

import itertools

import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, warned

_BATCHES = 40


def check(case: Case) -> Finding:
    """Fails where batches that the user makes come sorted by class; arrays are shuffled by `fit`."""
    if case.source.are_arrays:
        labels = case.audit.labels[0] if case.classes is not None else None
        if labels is None or labels.runs is None or labels.expected_runs is None or len(labels.counts) < 2:
            return not_applicable("The check is for one class a sample.")
        figures = {"runs": labels.runs, "expected": labels.expected_runs}
        if labels.runs < 0.3 * labels.expected_runs and case.audit.samples >= 50:
            return warned(
                f"The samples are sorted by their labels: {labels.runs} runs, {labels.expected_runs:.0f} in a random "
                "order.",
                "fit shuffles arrays, but validation_split takes the last ones: shuffle before splitting.",
                **figures,
            )
        return passed(f"The order of the labels is that of chance: {labels.runs} runs.", **figures)
    found = [case.classes_of(y) for _, y, _ in itertools.islice(case.source.epoch(0), _BATCHES)]
    parts = [each for each in found if each is not None and len(each) > 1]
    if len(parts) < 2:
        return not_applicable("The check is for one class a sample, in several batches.")
    every = np.concatenate(parts)
    shares = np.unique(every, return_counts=True)[1] / len(every)
    if len(shares) < 2:
        return not_applicable("There is one class only.")
    expected = float(np.mean([_different(shares, len(each)) for each in parts]))
    seen = float(np.mean([len(np.unique(each)) for each in parts]))
    figures = {"classes_a_batch": seen, "expected": expected}
    if seen < 0.6 * expected and seen < expected - 0.5:
        return failed(
            f"A batch holds {seen:.1f} classes on the mean, and {expected:.1f} if the samples were mixed: they come "
            "sorted.",
            "Shuffle the samples before they are put into batches; a shuffle buffer must be larger than a class.",
            **figures,
        )
    return passed(f"A batch holds {seen:.1f} classes on the mean; {expected:.1f} are to be expected.", **figures)


def _different(shares: np.ndarray, count: int) -> float:
    return float((1 - (1 - shares) ** count).sum())
