"""A tree of image files, one folder a class, with or without train/ and test/ (or val/) above the classes."""

import dataclasses
from pathlib import Path

import numpy as np

from kerasblocks.data._labels import stratified_selection, stratified_split
from kerasblocks.data._raw import RawImages
from kerasblocks.data.load_image import is_grey, load_image

_SPLITS = ("train", "test", "val")


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """Image files by split, with their labels and the names of the classes."""

    train_paths: list[Path]
    train_labels: np.ndarray
    test_paths: list[Path]
    test_labels: np.ndarray
    names: tuple[str, ...]


def read_class_folders(
    root: Path, image_size: tuple[int, int] | None, channels: int | None, limit: int | None
) -> RawImages:
    """Reads the tree; only the images that `limit` leaves are decoded, but every file is looked at."""
    tree = list_class_folders(root)
    kept_train, kept_test = (stratified_selection(each, limit) for each in (tree.train_labels, tree.test_labels))
    grey = [is_grey(path) for path in (*tree.train_paths, *tree.test_paths)]
    if channels is None:
        channels = 1 if all(grey) else 3
    x_train = _decode([tree.train_paths[i] for i in kept_train], image_size, channels)
    x_test = _decode([tree.test_paths[i] for i in kept_test], image_size, channels)
    return RawImages(x_train, tree.train_labels[kept_train], x_test, tree.test_labels[kept_test], tree.names)


def list_class_folders(root: Path) -> ClassFolders:
    """Lists the files of the tree; without train/ and test/ (or val/) a fifth of every class is for testing."""
    folders = [entry for entry in _visible(root) if entry.is_dir()]
    splits = sorted((folder.name for folder in folders if folder.name in _SPLITS), key=_SPLITS.index)
    if len(splits) == len(folders) == 2 and splits[0] == "train":
        test = splits[1]
        for entry in _visible(root):
            if not entry.is_dir():
                raise ValueError(f"{root}: must hold train/ and {test}/ and nothing else; found the file {entry.name}.")
        names, train_paths, train_labels = _list_classes(root / "train")
        test_names, test_paths, test_labels = _list_classes(root / test)
        if names != test_names:
            differing = sorted(set(names) ^ set(test_names))
            raise ValueError(
                f"{root}: train/ and {test}/ must have the same class folders; they differ in {differing}."
            )
        return ClassFolders(train_paths, train_labels, test_paths, test_labels, names)
    if splits and any(entry.is_dir() for name in splits for entry in _visible(root / name)):
        raise ValueError(
            f"{root}: must hold train/ and test/ (or val/) and no other folder, or class folders only; "
            f"found {[folder.name for folder in folders]}."
        )
    names, paths, labels = _list_classes(root)
    for name, count in zip(names, np.bincount(labels), strict=True):
        if count < 2:
            raise ValueError(
                f"{root / name}: a class needs at least 2 images to be split into training and test; "
                f"found {count}. Add images, or make train/ and test/ folders."
            )
    kept, held_out = stratified_split(labels)
    return ClassFolders([paths[i] for i in kept], labels[kept], [paths[i] for i in held_out], labels[held_out], names)


def _list_classes(root: Path) -> tuple[tuple[str, ...], list[Path], np.ndarray]:
    names: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    for folder in _visible(root):
        if not folder.is_dir():
            raise ValueError(f"{root}: must hold one folder a class and nothing else; found the file {folder.name}.")
        files = _visible(folder)
        if not files:
            raise ValueError(f"{folder}: a class folder must hold at least one image; it is empty.")
        for file in files:
            if not file.is_file():
                raise ValueError(f"{folder}: a class folder must hold image files only; found the folder {file.name}.")
        labels += [len(names)] * len(files)
        names.append(folder.name)
        paths += files
    if not names:
        raise ValueError(f"{root}: must hold one folder a class; found none.")
    return tuple(names), paths, np.array(labels, "int64")


def _decode(paths: list[Path], image_size: tuple[int, int] | None, channels: int) -> np.ndarray:
    images: list[np.ndarray] = []
    for path in paths:
        image = load_image(path, image_size=image_size, channels=channels)
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"{path}: all images must have one size unless image_size is given; this one is "
                f"{image.shape[:2]}, {paths[0]} is {images[0].shape[:2]}."
            )
        images.append(image)
    return np.stack(images)


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
