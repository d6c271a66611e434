"""Whether labels have anything to do with their inputs."""

from collections.abc import Callable

import keras
import numpy as np

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed

_SAMPLES, _FEATURES, _LEAST = 2000, 256, 150
_RIDGE = 10.0
_ERRORS = 3.5  # standard errors from chance that tell


def check(case: Case) -> Finding:
    """Fails where neither simple models nor a short fit of the model itself tells more of the labels than chance.

    The simple ones are the nearest sample, a ridge regression, and for tokens a naive Bayes classifier. Of classes, the
    share that is right is compared with chance, of numbers the correlation; what lies clearly below chance tells, too.
    """
    found = _prepared(case)
    if found is None:
        return not_applicable(
            f"The check is for arrays of numbers, {_LEAST} samples, and a class or a number for each."
        )
    features, tokens, labels, chosen = found
    half = len(labels) // 2
    measure = _Measure(labels, half)
    tries: dict[str, Callable[[], tuple[float, bool]]] = {
        "nearest_neighbour": lambda: measure.of_all(_nearest(features, labels)),
        "linear": lambda: measure.of_half(_linear(features, measure.targets, half)),
    }
    if tokens is not None and measure.are_classes:
        tries["naive_bayes"] = lambda: measure.of_half(_naive_bayes(tokens, labels, half))
    tries["itself"] = lambda: measure.of_half(case.predicted_after_a_fit(chosen[:half], chosen[half:]))
    figures: dict[str, float] = {"by_chance": measure.chance}
    for name, attempt in tries.items():
        figures[name], tells = attempt()
        if tells:
            return passed(
                f"{name.replace('_', ' ').capitalize()}: {measure.name} {figures[name]:.3g}, by chance "
                f"{measure.chance:.3g}.",
                **figures,
            )
    told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())
    return failed(
        f"Nothing tells the labels from the inputs ({measure.name}: {told}). The labels may be shuffled.",
        "Look at a few samples with their labels: inputs and labels may have been shuffled or filtered apart.",
        **figures,
    )


class _Measure:
    """How well labels are told, and whether that is more than chance."""

    def __init__(self, labels: np.ndarray, half: int) -> None:
        self.are_classes = labels.dtype.kind == "i"
        self.name = "accuracy" if self.are_classes else "correlation"
        self._labels, self._half = labels, half
        if self.are_classes:
            shares = np.bincount(labels) / len(labels)
            self.targets = np.eye(len(shares))[labels]
            self.chance, self._largest = float((shares**2).sum()), float(shares.max())
        else:
            self.targets = (labels - labels.mean())[:, None]
            self.chance = self._largest = 0.0

    def of_all(self, told: np.ndarray) -> tuple[float, bool]:
        """Judges what is told of every sample by labels drawn as others have them."""
        return self._judged(told, self._labels, self.chance)

    def of_half(self, told: np.ndarray | None) -> tuple[float, bool]:
        """Judges what is told of the second half by a model, which may name the largest class always."""
        return (0.0, False) if told is None else self._judged(told, self._labels[self._half :], self._largest)

    def _judged(self, told: np.ndarray, labels: np.ndarray, most: float) -> tuple[float, bool]:
        if not self.are_classes:
            spreads = float(np.std(told) * np.std(labels))
            found = float(((told - told.mean()) * (labels - labels.mean())).mean() / spreads) if spreads > 0 else 0.0
            return found, abs(found) > _ERRORS / np.sqrt(len(labels))
        found = float((told == labels).mean())
        above, below = (_ERRORS * np.sqrt(share * (1 - share) / len(labels)) for share in (most, self.chance))
        return found, bool(found > most + above or found < self.chance - below)


def _prepared(case: Case) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray] | None:
    """Returns features, tokens, labels, and the numbers of the samples, None where the check is for others."""
    leaves = [leaf for leaf in keras.tree.flatten(case.samples[0]) if isinstance(leaf, np.ndarray)]
    if not leaves or any(leaf.dtype.kind not in "fiub" for leaf in leaves) or len(leaves[0]) < _LEAST:
        return None
    y, head = case.samples[1], case.head
    chosen = np.random.default_rng(case.seed).permutation(len(leaves[0]))[:_SAMPLES]
    if case.classes is not None:
        numbers = np.unique(case.classes)
        if len(numbers) < 2 or len(numbers) > len(case.classes) // 10:
            return None
        labels = np.searchsorted(numbers, case.classes[chosen]).astype("int64")
    elif head is not None and head.loss == "regression" and isinstance(y, np.ndarray) and y.size == len(y):
        labels = y.reshape(-1)[chosen].astype("float64")
        if not np.isfinite(labels).all() or labels.std() == 0:
            return None
    else:
        return None
    embeds = any("Embedding" in each.kind for each in case.inference.layers)
    whole = [leaf[chosen].reshape(len(chosen), -1) for leaf in leaves if embeds and leaf.dtype.kind in "iu"]
    rng = np.random.default_rng(case.seed)
    parts = [_counted(each) for each in whole]
    parts += [_flat(leaf[chosen], rng) for leaf in leaves if not (embeds and leaf.dtype.kind in "iu")]
    return np.concatenate(parts, 1), np.concatenate(whole, 1) if whole else None, labels, chosen


def _flat(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = np.nan_to_num(x.reshape(len(x), -1).astype("float32"), posinf=0, neginf=0)
    if rows.shape[1] > _FEATURES:
        rows = rows @ (rng.normal(size=(rows.shape[1], _FEATURES)).astype("float32") / np.float32(np.sqrt(_FEATURES)))
    return _standard(rows)


def _counted(x: np.ndarray) -> np.ndarray:
    """Returns how often each token is in each sample, and which one is at its ends."""
    tokens = x.astype("int64") % _FEATURES
    rows = np.zeros((len(x), 3 * _FEATURES), "float32")
    np.add.at(rows, (np.repeat(np.arange(len(x)), tokens.shape[1]), tokens.reshape(-1)), 1)
    rows[np.arange(len(x)), _FEATURES + tokens[:, 0]] += 1
    rows[np.arange(len(x)), 2 * _FEATURES + tokens[:, -1]] += 1
    return _standard(rows)


def _standard(rows: np.ndarray) -> np.ndarray:
    deviation = rows.std(0)
    found: np.ndarray = (rows - rows.mean(0)) / np.where(deviation > 0, deviation, 1)
    return found


def _nearest(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the label of the nearest other sample that is no copy."""
    squares = (features**2).sum(1)
    distance = squares[:, None] - 2 * features @ features.T + squares
    distance[distance <= 1e-6 * max(1e-12, float(np.median(distance)))] = np.inf
    found: np.ndarray = labels[distance.argmin(1)]
    return found


def _linear(features: np.ndarray, targets: np.ndarray, half: int) -> np.ndarray:
    """Returns what a ridge regression on one half tells of the other."""
    rows = np.concatenate([features, np.ones((len(features), 1), "float32")], 1).astype("float64")
    matrix = rows[:half].T @ rows[:half] + _RIDGE * np.eye(rows.shape[1])
    told: np.ndarray = rows[half:] @ np.linalg.solve(matrix, rows[:half].T @ targets[:half])
    return told.argmax(1) if targets.shape[1] > 1 else told[:, 0]


def _naive_bayes(tokens: np.ndarray, labels: np.ndarray, half: int) -> np.ndarray:
    """Returns the classes of the second half by which tokens the classes of the first have."""
    _, numbers = np.unique(tokens, return_inverse=True)
    numbers = numbers.reshape(tokens.shape)
    counts = np.ones((int(numbers.max()) + 1, int(labels.max()) + 1))
    np.add.at(counts, (numbers[:half].reshape(-1), np.repeat(labels[:half], tokens.shape[1])), 1)
    told = np.log(counts / counts.sum(0))[numbers[half:]].sum(1)
    found: np.ndarray = (told + np.log(np.bincount(labels[:half], minlength=counts.shape[1]) + 1)).argmax(1)
    return found
