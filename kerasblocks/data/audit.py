"""What is in a data set that a model is to be trained on, in numbers: Keras trains on whatever it gets."""

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks._json_values import json_values
from kerasblocks.data._batch_source import BatchSource, validation_source
from kerasblocks.data._coincidences import bits_of
from kerasblocks.data._figures import NAMED, ArrayFigures, common_figures, joined_figures
from kerasblocks.data._input_figures import InputFigures, input_figures
from kerasblocks.data._label_figures import LabelFigures, label_figures
from kerasblocks.data._near_samples import near_pairs
from kerasblocks.data._overlaps import overlapping
from kerasblocks.data._row_keys import row_keys
from kerasblocks.data._shift import Shift, shift_between, with_labels

Leaves = list[tuple[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class DataAudit:
    """What `audit` has found; numbers, of which the check-up says whether they are bad.

    Attributes:
        samples: how many samples were looked at.
        inputs: of each array of x; missing and infinite numbers and the range of arrays are those of all samples.
        labels: of each array of y, likewise.
        duplicates: samples whose inputs an earlier sample has, bit for bit.
        duplicate_pairs: the first of them, with the earlier one.
        conflicting: samples whose inputs an earlier sample has with another label.
        conflicting_pairs: the first of them, with the earlier one.
        validation_samples: how many samples of the validation data were looked at.
        validation_inputs, validation_labels: as `inputs` and `labels`, of the validation data.
        shared: validation samples whose inputs a training sample has, bit for bit.
        shared_pairs: the first of them, `(validation, training)`.
        near: validation samples that are no such copies, but nearly: closer to a training sample than 5 % of the
            distance between two samples drawn at random.
        near_pairs: the first of them, `(validation, training)`.
        overlapping: validation samples of which half is in a training sample, bit for bit and at any place: windows of
            one series.
        overlapping_pairs: the first of them, `(validation, training)`.
        shared_expected: the share of training samples that another training sample has, bit for bit.
        near_expected: the share of training samples that lie as near to another one.
        bits: the entropy of a sample in bits, as if its features were independent, of up to 64 of them.
        shift: how far validation lies from training.
    """

    samples: int
    inputs: list[InputFigures]
    labels: list[LabelFigures]
    duplicates: int = 0
    duplicate_pairs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    conflicting: int = 0
    conflicting_pairs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    validation_samples: int = 0
    validation_inputs: list[InputFigures] = dataclasses.field(default_factory=list)
    validation_labels: list[LabelFigures] = dataclasses.field(default_factory=list)
    shared: int = 0
    shared_pairs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    near: int = 0
    near_pairs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    overlapping: int = 0
    overlapping_pairs: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    shared_expected: float = 0.0
    near_expected: float = 0.0
    bits: float = 0.0
    shift: Shift | None = None

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    @property
    def coincidences(self) -> bool:
        """Whether equal samples are to be expected, for there are few different ones: bits below 2 log₂(samples)."""
        return self.bits < 2 * math.log2(max(2, self.samples))

    def as_dict(self) -> dict[str, Any]:
        """Returns all of it as numbers, strings and lists that JSON takes."""
        return dict(json_values(dataclasses.asdict(self)))


def audit(
    x: Any,
    y: Any = None,
    *,
    validation_data: Any = None,
    num_classes: int | None = None,
    max_samples: int = 20_000,
    seed: int = 0,
) -> DataAudit:
    """Looks through data for what keeps models from training: numbers, labels, duplicates, order, leaks, shift.

    It tells what is there and judges nothing. No sample is changed; batches are read from their start.

    Args:
        x: arrays (also nested), or batches as `fit` takes them: a `PyDataset`, a `tf.data.Dataset`, a `DataLoader`, or
            a function that returns an iterator over batches.
        y: labels, where x is arrays.
        validation_data: `(x, y)` arrays, or batches likewise.
        num_classes: how many classes there should be; by default 1 more than the largest label.
        max_samples: how many samples of each are looked at, the first ones of batches, a random choice of arrays; fewer
            where they would take more than a gigabyte.
        seed: of that choice, and of the projection by which near copies are found.

    Raises:
        ValueError: no samples, arrays of unequal lengths, a generator that can be run through once only.

    Source: the two-sample test is Kolmogorov's and Smirnov's, with the asymptotic bound of Massart (1990); near copies
    are found among random projections (Johnson & Lindenstrauss, 1984) and confirmed on the samples themselves.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.data import audit
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(100, 4))
    >>> x[7, 2] = np.nan
    >>> found = audit(x, np.arange(100) % 3, validation_data=(x[50:60], np.arange(50, 60) % 3))
    >>> found.inputs[0].missing, found.inputs[0].bad_samples, found.shared
    (1, [7], 10)
    >>> found.labels[0].counts
    {0: 34, 1: 33, 2: 33}
    """
    most = as_integer("max_samples", max_samples, least=1)
    classes = None if num_classes is None else as_integer("num_classes", num_classes, least=1)
    seed = as_integer("seed", seed, least=0)
    source = BatchSource(x, y, seed=seed)
    numbers = source.places(most)
    x, y, _ = source.samples(most)
    leaves = _named("x", x)
    samples = len(leaves[0][1])
    keys = row_keys([leaf for _, leaf in leaves])
    copies = _first_of_each(keys)
    duplicates = [(place, first) for place, first in enumerate(copies) if first != place]
    labels = _named("y", y)
    label_keys = row_keys([leaf for _, leaf in labels]) if labels else None
    conflicting = (
        [] if label_keys is None else [pair for pair in duplicates if label_keys[pair[0]] != label_keys[pair[1]]]
    )
    inputs, label_parts = _of_all(source, *_looked_at(leaves, labels, classes), numbers)
    found = DataAudit(
        samples=samples,
        inputs=inputs,
        labels=label_parts,
        duplicates=len(duplicates),
        duplicate_pairs=_numbered(duplicates, numbers, numbers),
        conflicting=len(conflicting),
        conflicting_pairs=_numbered(conflicting, numbers, numbers),
        bits=bits_of([leaf for _, leaf in leaves]),
    )
    if validation_data is None:
        return found
    return _with_validation(found, leaves, keys, numbers, validation_source(validation_data, seed=seed), most, seed)


def _with_validation(
    found: DataAudit,
    leaves: Sequence[tuple[str, np.ndarray]],
    keys: Sequence[bytes],
    trained: np.ndarray,
    source: BatchSource,
    most: int,
    seed: int,
) -> DataAudit:
    x, y, _ = source.samples(most)
    numbers = source.places(most)
    others, labels = _named("x", x), _named("y", y)
    shapes = [[(path, leaf.shape[1:]) for path, leaf in each] for each in (leaves, others)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Training and validation inputs must have equal shapes; got {shapes[0]} and {shapes[1]}.")
    places = {key: place for place, key in reversed(list(enumerate(keys)))}
    cast = [leaf.astype(first.dtype) for (_, leaf), (_, first) in zip(others, leaves, strict=True)]
    other_keys = row_keys(cast)
    shared = [(place, places[key]) for place, key in enumerate(other_keys) if key in places]
    copied = {place for place, _ in shared}
    near, expected = near_pairs([leaf for _, leaf in leaves], cast, seed)
    near = [pair for pair in near if pair[0] not in copied]
    windows = [pair for (_, one), two in zip(leaves, cast, strict=True) for pair in overlapping(one, two)]
    windows = [pair for pair in dict(windows).items() if pair[0] not in copied]
    shift = shift_between(leaves, others)
    inputs, classes = _of_all(source, *_looked_at(others, labels, None), numbers)
    if len(classes) == len(found.labels) == 1 and found.labels[0].counts and classes[0].counts:
        shift = with_labels(shift, found.labels[0].counts, classes[0].counts)
    return dataclasses.replace(
        found,
        validation_samples=len(others[0][1]),
        validation_inputs=inputs,
        validation_labels=classes,
        overlapping=len(windows),
        overlapping_pairs=_numbered(windows, numbers, trained),
        shared_expected=_with_a_copy(keys),
        shared=len(shared),
        shared_pairs=_numbered(shared, numbers, trained),
        near=len(near),
        near_pairs=_numbered(near, numbers, trained),
        near_expected=expected,
        shift=shift,
    )


def _looked_at(leaves: Leaves, labels: Leaves, classes: int | None) -> tuple[list[InputFigures], list[LabelFigures]]:
    return (
        [input_figures(path, leaf) for path, leaf in leaves],
        [label_figures(path, leaf, classes) for path, leaf in labels],
    )


def _of_all(
    source: BatchSource, inputs: list[InputFigures], labels: list[LabelFigures], numbers: np.ndarray
) -> tuple[list[InputFigures], list[LabelFigures]]:
    """Returns the figures with what is not finite, and the range, of all samples, where x is arrays."""
    if not source.are_arrays or source.count() == len(numbers):
        return inputs, labels
    found: dict[str, dict[str, Any]] = {}
    start = 0
    for x, y, _ in source.parts(len(numbers)):
        leaves = [*_named("x", x), *_named("y", y)]
        for path, leaf in leaves:
            found[path] = joined_figures(found.get(path, {}), common_figures(leaf)[0], start)
        start += len(leaves[0][1])
    return (
        [dataclasses.replace(each, **found[each.path]) for each in inputs],
        [dataclasses.replace(each, **found[each.path]) for each in labels],
    )


def _named(name: str, data: Any) -> Leaves:
    """Returns the arrays with their places, those of dicts in the order of their keys."""
    if data is None:
        return []
    if isinstance(data, dict):
        return [leaf for key in sorted(data) for leaf in _named(f"{name}[{key!r}]", data[key])]
    if isinstance(data, list | tuple):
        return [leaf for place, part in enumerate(data) for leaf in _named(f"{name}[{place}]", part)]
    return [(name, data)]


def _numbered(pairs: list[tuple[int, int]], first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """Returns the first pairs of places among the chosen samples as the samples' own numbers."""
    return [(int(first[one]), int(second[other])) for one, other in pairs[:NAMED]]


def _first_of_each(keys: Sequence[Any]) -> list[int]:
    """Returns for each sample the first one with its key."""
    places: dict[Any, int] = {}
    return [places.setdefault(key, place) for place, key in enumerate(keys)]


def _with_a_copy(keys: Sequence[Any]) -> float:
    """Returns the share of samples whose key another one has."""
    counts = collections.Counter(keys)
    return sum(count for count in counts.values() if count > 1) / max(1, len(keys))


def _lines(found: DataAudit) -> list[str]:
    """Returns the findings as lines to read."""
    lines = [f"{found.samples} samples"]
    for each in found.inputs:
        between = "" if each.least is None else f", {each.least:.4g} to {each.largest:.4g}, mean {each.mean:.4g}"
        lines.append(f"{each.path}: {each.dtype} {each.shape}{between}")
        if each.constant:
            lines.append(f"  {each.constant} of {each.features} features are constant, as {each.constant_features}")
    for label in found.labels:
        between = "" if label.least is None else f", {label.least:.4g} to {label.largest:.4g}"
        lines.append(f"{label.path}: {label.dtype} {label.shape}, {label.kind}{between}")
        if label.counts:
            lines.append(
                f"  {len(label.counts)} classes, of {min(label.counts.values())} to {max(label.counts.values())}"
            )
        if label.absent:
            lines.append(f"  classes without a sample: {label.absent[:NAMED]}")
    parts: list[tuple[str, ArrayFigures]] = [("", each) for each in (*found.inputs, *found.labels)]
    parts += [("validation ", each) for each in (*found.validation_inputs, *found.validation_labels)]
    for where, part in parts:
        if part.missing or part.infinite:
            lines.append(
                f"{where}{part.path}: {part.missing} NaN and {part.infinite} infinite, as in samples {part.bad_samples}"
            )
    lines.append(f"duplicates: {found.duplicates}, of them with another label: {found.conflicting}")
    if found.validation_samples:
        lines.append(
            f"validation: {found.validation_samples} samples, of which {found.shared} are in the training data, "
            f"{found.near} nearly, and {found.overlapping} overlap with it"
        )
    if found.shift is not None:
        lines.append(
            f"largest shift: {found.shift.quantity}, {found.shift.statistic:.3f}; by chance at most "
            f"{found.shift.threshold:.3f}"
        )
    return lines
