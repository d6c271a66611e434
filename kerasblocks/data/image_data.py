"""A checked image data set in memory: Keras returns bare tuples, this carries names, origin and fingerprint."""

import dataclasses
import functools

import numpy as np

from kerasblocks.data._digest import digest_of


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Images and labels for training and testing, checked as a whole when made.

    Args:
        x_train: training images, shape `(n, height, width, channels)`, `uint8` in 0..255 or
            `float32` in 0..1.
        y_train: training labels, shape `(n,)`, integers from 0 to `len(class_names) - 1`.
        x_test: test images of the same dtype, height, width and channels.
        y_test: test labels, as `y_train`.
        class_names: one name per class, in the order of the labels.
        source: where the data came from: a known name or a path.

    Attributes:
        fingerprint: SHA-256 (hexadecimal) of the arrays' dtypes, shapes and bytes and of the class
            names. It does not depend on where the data was read from.

    Raises:
        ValueError: images that are not rank 4, differ in shape or dtype, are out of range or not
            finite; labels that are not integers, out of range, or not as many as the images; an
            empty split.

    Example:

    >>> import numpy as np
    >>> from kerasblocks.data import ImageData
    >>> data = ImageData(
    ...     x_train=np.zeros((4, 8, 8, 1), "uint8"), y_train=np.array([0, 1, 0, 1]),
    ...     x_test=np.zeros((2, 8, 8, 1), "uint8"), y_test=np.array([1, 0]),
    ...     class_names=("cat", "dog"), source="example",
    ... )
    >>> data.num_classes, data.image_shape, len(data.fingerprint)
    (2, (8, 8, 1), 64)
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.class_names:
            raise ValueError(f"{self.source}: there must be at least one class name; got none.")
        if not isinstance(self.class_names, tuple) or not all(isinstance(name, str) for name in self.class_names):
            raise ValueError(f"{self.source}: class_names must be a tuple of strings; got {self.class_names!r}.")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"{self.source}: class_names must differ from each other; got {self.class_names!r}.")
        check_images(self.x_train, f"{self.source}: x_train")
        check_images(self.x_test, f"{self.source}: x_test")
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.x_train.dtype != self.x_test.dtype:
            raise ValueError(
                f"{self.source}: training and test images must agree in shape and dtype; got "
                f"{self.x_train.shape[1:]} {self.x_train.dtype} and {self.x_test.shape[1:]} {self.x_test.dtype}."
            )
        for name, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            check_labels(y, len(x), f"{self.source}: y_{name}", num_classes=len(self.class_names))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of every image."""
        height, width, channels = self.x_train.shape[1:]
        return height, width, channels

    @functools.cached_property
    def fingerprint(self) -> str:
        return digest_of((self.x_train, self.y_train, self.x_test, self.y_test), *self.class_names)


def check_images(x: np.ndarray, where: str) -> None:
    """Raises `ValueError` unless `x` is a whole array of images as `ImageData` holds them."""
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{where} must be a NumPy array; got {type(x).__name__}.")
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ValueError(f"{where} must have shape (images, height, width, channels); got {x.shape}.")
    if len(x) == 0:
        raise ValueError(f"{where} must hold at least one image; got none.")
    if x.dtype == np.uint8:
        return
    if x.dtype != np.float32:
        raise ValueError(f"{where} must be uint8 (0..255) or float32 (0..1); got {x.dtype}.")
    if not np.isfinite(x).all():
        index = int(np.argwhere(~np.isfinite(x))[0][0])
        raise ValueError(f"{where} must be finite; image {index} has NaN or infinite pixels.")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"{where} of floats must lie in 0..1; got {x.min():g} to {x.max():g}.")


def check_labels(y: np.ndarray, images: int, where: str, num_classes: int | None = None) -> None:
    """Raises `ValueError` unless `y` is a vector of `images` integer labels in `0..num_classes - 1`."""
    if not isinstance(y, np.ndarray):
        raise ValueError(f"{where} must be a NumPy array; got {type(y).__name__}.")
    if y.ndim != 1:
        raise ValueError(f"{where} must be a vector of labels, one an image; got shape {y.shape}.")
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{where} must hold integers; got {y.dtype}.")
    if len(y) != images:
        raise ValueError(f"{where} must have one label an image; got {len(y)} labels for {images} images.")
    if len(y) and y.min() < 0:
        raise ValueError(f"{where} must not be negative; got {y.min()} at position {int(y.argmin())}.")
    if num_classes is not None and len(y) and y.max() >= num_classes:
        raise ValueError(
            f"{where} must lie in 0..{num_classes - 1} ({num_classes} classes); "
            f"got {y.max()} at position {int(y.argmax())}."
        )
