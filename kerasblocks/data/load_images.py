"""One call for image data from a name, a folder or a file: `keras.datasets` knows names only and checks nothing."""

import os
from pathlib import Path

from kerasblocks.data._class_folders import read_class_folders
from kerasblocks.data._digits import read_digits
from kerasblocks.data._idx import holds_idx_files, read_idx_folder
from kerasblocks.data._keras_datasets import KERAS_DATASETS, read_keras_dataset
from kerasblocks.data._labels import as_labels, infer_class_names, stratified_selection
from kerasblocks.data._npz import read_npz
from kerasblocks.data._photos import read_photos
from kerasblocks.data._pixels import as_pixels, fit_images
from kerasblocks.data._raw import RawImages
from kerasblocks.data.image_data import ImageData, check_images, check_labels
from kerasblocks.data.load_image import as_image_size, check_channels

_EMBEDDED = {"digits": read_digits, "photos": read_photos}


def load_images(
    source: str | os.PathLike[str] = "digits",
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    limit: int | None = None,
) -> ImageData:
    """Loads image data whole and checked, or raises.

    Args:
        source: one of

            - `"digits"`: the 1,797 handwritten digits of 8x8 pixels that scikit-learn carries, grey
              levels spread from 0..16 to 0..255, a fifth of every class for testing by a fixed split;
            - `"photos"`: 400 crops of 96x96 pixels of scikit-learn's two sample photographs for training, 100 of other
              parts of them for testing, two classes;
            - `"mnist"`, `"fashion_mnist"`, `"cifar10"`: through `keras.datasets`, which downloads them;
            - a folder of IDX files with the usual MNIST names, raw or gzipped;
            - an `.npz` file with `x_train`, `y_train`, `x_test`, `y_test` (and `class_names`, optionally):
              pixels as integers 0..255 or floats 0..1, labels as integers from 0;
            - a folder with one folder of images a class (sorted names give the labels), or with
              `train/` and `test/` that hold such folders; without them a fifth of every class is held
              out by a fixed split. Names that begin with a dot are passed over.

            A string that is a known name means the data set; write `./digits` for a folder of that name.
        image_size: side of a square or `(height, width)` to resize to (bilinear); None keeps the size.
        channels: 1 (grey) or 3 (RGB) to convert to; None keeps what is there.
        limit: at most this many images of each split, taken from the classes in turn.

    Returns:
        An `ImageData`. Pixels stay uint8 where the source has whole numbers.

    Raises:
        FileNotFoundError: no such file or folder, or one of the IDX files is missing.
        ValueError: anything in the source that is damaged, incomplete or out of range, with the path,
            the rule and what was found.
        ConnectionError: the data set would have to be downloaded and cannot be.
        ImportError: a package that this source needs is missing (scikit-learn, Pillow).

    Example:

    >>> from kerasblocks.data import load_images
    >>> data = load_images("digits", image_size=32)
    >>> data.x_train.shape, data.x_train.dtype, data.x_test.shape
    ((1438, 32, 32, 1), dtype('uint8'), (359, 32, 32, 1))
    """
    size = as_image_size(image_size)
    check_channels(channels)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ValueError(f"limit must be a positive integer or None; got {limit!r}.")
    raw = _read(source, size, channels, limit)
    where = str(source)
    splits = []
    for name, x, y in (("train", raw.x_train, raw.y_train), ("test", raw.x_test, raw.y_test)):
        pixels = as_pixels(x, f"{where}: x_{name}")
        labels = as_labels(y, len(pixels), f"{where}: y_{name}")
        check_images(pixels, f"{where}: x_{name}")
        splits.append((pixels, labels))
    class_names = raw.class_names or infer_class_names(splits[0][1], splits[1][1], where)
    chosen = []
    for name, (pixels, labels) in zip(("train", "test"), splits, strict=True):
        check_labels(labels, len(pixels), f"{where}: y_{name}", num_classes=len(class_names))
        kept = stratified_selection(labels, limit)
        chosen += [fit_images(pixels[kept], size, channels, where), labels[kept]]
    x_train, y_train, x_test, y_test = chosen
    return ImageData(x_train, y_train, x_test, y_test, class_names=class_names, source=where)


def names_class_folders(source: str | os.PathLike[str]) -> bool:
    """Returns whether `load_images` takes a source for a folder with one folder of images a class.

    Such a folder can be listed by `find_images` as well, without reading its images.

    Args:
        source: as `load_images` takes it.

    Example:

    >>> import tempfile
    >>> from kerasblocks.data import names_class_folders
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     names_class_folders(folder), names_class_folders("cifar10")
    (True, False)
    """
    is_name = isinstance(source, str) and (source in _EMBEDDED or source in KERAS_DATASETS)
    return not is_name and Path(source).is_dir() and not holds_idx_files(Path(source))


def _read(
    source: str | os.PathLike[str], image_size: tuple[int, int] | None, channels: int | None, limit: int | None
) -> RawImages:
    if source in _EMBEDDED:
        return _EMBEDDED[str(source)]()
    if isinstance(source, str) and source in KERAS_DATASETS:
        return read_keras_dataset(source)
    path = Path(source)
    if names_class_folders(path):
        return read_class_folders(path, image_size, channels, limit)
    if path.is_dir():
        return read_idx_folder(path)
    if path.suffix == ".npz" and path.is_file():
        return read_npz(path)
    if path.is_file():
        raise ValueError(f"{path}: a data file must be an .npz; for anything else pass its folder.")
    raise FileNotFoundError(
        f"{path}: no such folder or file, and not one of the known data sets "
        f"{', '.join(map(repr, (*_EMBEDDED, *KERAS_DATASETS)))}."
    )
