"""Labels: which classes they name, a stratified split and a stratified selection."""

import numpy as np

from kerasblocks.data.image_data import check_labels

# Up to ten classes ("0".."9") may have gaps; beyond that, at least half of the classes must occur, so that one
# corrupt label does not invent hundreds of classes.
_CLASSES_ALWAYS_ALLOWED = 10


def as_labels(y: np.ndarray, images: int, where: str) -> np.ndarray:
    """Returns the labels as an int64 vector; a column vector, as CIFAR has it, is flattened."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    check_labels(y, images, where)
    return y.astype("int64")


def infer_class_names(y_train: np.ndarray, y_test: np.ndarray, where: str) -> tuple[str, ...]:
    """Names the classes "0", "1", ... after the training labels, which must be numbered from 0."""
    present = np.unique(y_train)
    num_classes = int(present[-1]) + 1
    if num_classes > max(_CLASSES_ALWAYS_ALLOWED, 2 * len(present)):
        raise ValueError(
            f"{where}: training labels must be numbered 0, 1, 2, ... without large gaps; got "
            f"{len(present)} different labels, the largest {present[-1]}."
        )
    unseen = np.setdiff1d(y_test, present)
    if len(unseen):
        raise ValueError(f"{where}: every test label must occur in training; {unseen.tolist()[:10]} do not.")
    return tuple(str(label) for label in range(num_classes))


def stratified_split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns sorted (train, test) positions: a fifth of every class for testing, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    test = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(len(members) / 5))
        test.append(rng.permutation(members)[:count])
    chosen = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def stratified_selection(labels: np.ndarray, limit: int | None) -> np.ndarray:
    """Returns the sorted positions of at most `limit` samples, taken from the classes in turn."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, counts)
    taken = order[np.argsort(rank, kind="stable")[:limit]]
    return np.sort(taken)
