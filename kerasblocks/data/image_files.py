"""Folders of images that need not fit in memory: files, labels and names of the classes, before any is decoded."""

import dataclasses
import functools
import hashlib
import os
from pathlib import Path

import numpy as np

from kerasblocks._arguments import as_integer
from kerasblocks.data._class_folders import list_class_folders
from kerasblocks.data._labels import stratified_selection


@dataclasses.dataclass(frozen=True)
class ImageFiles:
    """The image files of a data set.

    Attributes:
        train_files: files to train on.
        y_train: their labels, int64.
        test_files: files to test with.
        y_test: their labels.
        class_names: names of the classes, in the order of the labels.
        source: where the files were found.
    """

    train_files: tuple[Path, ...]
    y_train: np.ndarray
    test_files: tuple[Path, ...]
    y_test: np.ndarray
    class_names: tuple[str, ...]
    source: str

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the files' names, sizes and labels; their contents would take as long to read as an epoch."""
        digest = hashlib.sha256()
        for files, labels in ((self.train_files, self.y_train), (self.test_files, self.y_test)):
            for file, label in zip(files, labels, strict=True):
                name = os.path.relpath(file, self.source)
                digest.update(os.fsencode(f"{name}\0{file.stat().st_size}\0{label}\n"))
        return digest.hexdigest()


def find_images(source: str | os.PathLike[str], *, limit: int | None = None) -> ImageFiles:
    """Lists a folder of photographs, of any number.

    Args:
        source: a folder with one folder of images a class, whose sorted names give the labels, or with `train/` and
            `test/` (or `val/`) that hold such folders; without them a fifth of every class is held out by a fixed
            split. Names that begin with a dot are passed over.
        limit: at most this many files of each split, taken from the classes in turn.

    Returns:
        An `ImageFiles`, for `ImageBatches`.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: another layout, with the path, the rule and what was found; a `limit` below 1.

    Example:

    >>> import os, tempfile
    >>> from kerasblocks.data import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg", "dog/2.jpg"):
    ...         os.makedirs(os.path.join(folder, os.path.dirname(name)), exist_ok=True)
    ...         open(os.path.join(folder, name), "w").close()
    ...     found = find_images(folder)
    >>> found.class_names, len(found.train_files), len(found.test_files)
    (('cat', 'dog'), 2, 2)
    """
    root = Path(source)
    if limit is not None:
        limit = as_integer("limit", limit, least=1)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images.")
    tree = list_class_folders(root)
    train, test = (stratified_selection(labels, limit) for labels in (tree.train_labels, tree.test_labels))
    return ImageFiles(
        tuple(tree.train_paths[place] for place in train),
        tree.train_labels[train],
        tuple(tree.test_paths[place] for place in test),
        tree.test_labels[test],
        class_names=tree.names,
        source=str(root),
    )
