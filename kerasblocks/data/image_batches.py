"""Batches of photographs that are decoded ahead of the training; Keras's loaders forget seed and epoch."""

import functools
import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from kerasblocks._arguments import as_flag, as_integer, as_number
from kerasblocks.data._ahead import Ahead
from kerasblocks.data._digest import digest_of
from kerasblocks.data._epoch_batches import EpochBatches, order_of_epoch
from kerasblocks.data._image_sources import as_image_sources, pixels_of
from kerasblocks.data._pixels import fit_images
from kerasblocks.data.colour_components import ColourComponents
from kerasblocks.data.image_data import check_labels
from kerasblocks.data.load_image import as_image_size, check_channels

_LARGEST = 2**26  # pixels of a resized image, where no limit is given


class ImageBatches(EpochBatches):
    """Batches of images, decoded and changed by threads ahead of the one that asks.

    Each image is resized until its shorter side is `shorter_side`, cropped to `image_size` (in the middle, or where a
    random number says), mirrored with probability ½ if wanted, and coloured: Σᵢ αᵢ λᵢ pᵢ is added to each pixel, λ and
    p the principal components of colour, αᵢ ~ N(0, `colour_jitter`), one draw an image. What is random
    about an image is drawn by NumPy's PCG64, seeded with `SeedSequence([seed, epoch, place in the data])`: a batch is
    a pure function of seed, epoch and index, however many threads there are. Batches that come in turn are made ahead;
    any other can be asked for.

    In `fit` the epoch is the one that `fit` counts. The order of an epoch is that of `ArrayBatches`.

    Args:
        images: paths of image files, or uint8 arrays of shape `(height, width, channels)`, of any sizes.
        labels: whole numbers from 0, one an image.
        image_size: side of a square or `(height, width)` of the images that are given.
        batch_size: images in a batch.
        channels: 1 (grey) or 3 (RGB).
        shorter_side: what the shorter side is resized to before the crop; None for 8/7 of the longer side of
            `image_size`, the paper's 256 for 224.
        random_crop: whether the place of the crop is random, not the middle.
        mirror: whether half of the images are mirrored.
        colour_jitter: standard deviation of α, the paper's 0.1; 0 for none. Needs `colours`.
        colours: the principal components of colour, of `colour_components`.
        num_classes: None for labels as whole numbers; else they come as one-hot vectors of this length, which can be
            mixed (see `AugmentedBatches`).
        shuffle: whether epochs are shuffled.
        seed: non-negative integer.
        drop_remainder: whether to leave out the last batch when it is smaller than `batch_size`.
        skip_corrupt: whether files that cannot be decoded are passed over: in shuffled batches the next image of the
            batch takes their place, so that batches keep their size; in others they are left out. See `corrupt`.
        max_pixels: images with more are refused before they are decoded; None for Pillow's limit.
        threads: how many decode; None for as many as there are processors.
        ahead: how many batches are made ahead.

    Attributes:
        epoch: the epoch whose batches `batches[index]` gives; `fit` sets it.
        corrupt: the files that have been passed over so far, with the reason.

    Raises:
        ValueError: no images, labels of another number or below 0, numbers out of their ranges, a `shorter_side` below
            that of `image_size`, a `colour_jitter` without `colours` or these without it, a dropped remainder that
            leaves no batch; from `batch`: a file that is no whole image, named.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks",
    NeurIPS 2012, section 4.1.

    Example:

    >>> import os, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from kerasblocks.data import ImageBatches
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [os.path.join(folder, f"{number}.png") for number in range(3)]
    ...     for path in paths:
    ...         Image.fromarray(np.full((20, 30, 3), 255, "uint8")).save(path)
    ...     batches = ImageBatches(paths, [0, 1, 1], image_size=16, batch_size=2, random_crop=True)
    ...     x, y = batches.batch(epoch=0, index=0)
    >>> x.shape, x.dtype, float(x.max()), len(batches)
    ((2, 16, 16, 3), dtype('float32'), 1.0, 2)
    """

    in_order = "make the ImageBatches with shuffle=False"

    def __init__(
        self,
        images: Iterable[str | os.PathLike[str] | np.ndarray],
        labels: Any,
        *,
        image_size: int | tuple[int, int],
        batch_size: int,
        channels: int = 3,
        shorter_side: int | None = None,
        random_crop: bool = False,
        mirror: bool = False,
        colour_jitter: float = 0.0,
        colours: ColourComponents | None = None,
        num_classes: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_remainder: bool = False,
        skip_corrupt: bool = False,
        max_pixels: int | None = None,
        threads: int | None = None,
        ahead: int = 4,
    ) -> None:
        super().__init__()
        self._images = as_image_sources(images)
        self._labels = np.array(labels)
        self.num_classes = None if num_classes is None else as_integer("num_classes", num_classes, least=1)
        check_labels(self._labels, len(self._images), "labels", self.num_classes)
        size = as_image_size(image_size)
        check_channels(channels)
        if size is None or channels is None:
            raise ValueError("image_size and channels must be given: a batch has images of one shape.")
        self.image_size, self.channels = size, channels
        self.batch_size = as_integer("batch_size", batch_size, least=1)
        usual = max(round(max(size) * 8 / 7), max(size))
        self.shorter_side = usual if shorter_side is None else as_integer("shorter_side", shorter_side, least=1)
        if self.shorter_side < max(size):
            raise ValueError(f"shorter_side must be at least that of image_size; got {shorter_side} for {size}.")
        self.random_crop, self.mirror = as_flag("random_crop", random_crop), as_flag("mirror", mirror)
        self.colour_jitter = as_number("colour_jitter", colour_jitter)
        if self.colour_jitter < 0 or (self.colour_jitter and (colours is None or channels != 3)):
            raise ValueError(
                f"colour_jitter must be 0 or more, and above 0 needs colours and 3 channels; got {colour_jitter!r}."
            )
        if colours is not None and not isinstance(colours, ColourComponents):
            raise ValueError(f"colours must be what colour_components returns; got {colours!r}.")
        if colours is not None and not self.colour_jitter:
            raise ValueError("colours have no effect without a colour_jitter; got none.")
        self._colours = colours
        self.shuffle, self.seed = as_flag("shuffle", shuffle), as_integer("seed", seed, least=0)
        self.drop_remainder = as_flag("drop_remainder", drop_remainder)
        self.skip_corrupt = as_flag("skip_corrupt", skip_corrupt)
        self.max_pixels = None if max_pixels is None else as_integer("max_pixels", max_pixels, least=1)
        threads = (os.cpu_count() or 1) if threads is None else as_integer("threads", threads, least=1)
        if len(self) == 0:
            raise ValueError(f"There must be at least one batch of {batch_size}; got {len(self._images)} images.")
        self._corrupt: dict[Path, str] = {}
        self._lock = threading.Lock()
        # Unshuffled batches are those of an evaluation, which asks for the same epoch again.
        self._ahead = Ahead(
            self._made,
            length=len(self),
            changing=self.shuffle,
            threads=threads,
            ahead=as_integer("ahead", ahead, least=0),
        )

    @property
    def num_samples(self) -> int:
        """Number of images."""
        return len(self._images)

    @property
    def corrupt(self) -> dict[Path, str]:
        with self._lock:
            return dict(self._corrupt)

    def __len__(self) -> int:
        whole, rest = divmod(len(self._images), self.batch_size)
        return whole + (1 if rest and not self.drop_remainder else 0)

    def batch(self, epoch: int, index: int) -> tuple[Any, ...]:
        """Returns `(x, y)` of batch `index` of epoch `epoch`: float32 images, 0 to 1 but for jitter, and labels.

        Labels are int64, or float32 one-hot vectors where `num_classes` is given.

        Raises:
            IndexError: there is no such batch in an epoch.
            ValueError: a file that is no whole image, unless these are skipped; no whole image among all, or in a batch
                without shuffling.
        """
        epoch, index = as_integer("epoch", epoch, least=0), self._place(index)
        return self._ahead(epoch, index)

    @functools.cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the batches are made of: the settings, and a SHA-256 of labels, arrays, and names and sizes of files."""
        names = ["num_samples", "batch_size", "image_size", "channels", "shorter_side", "random_crop", "mirror"]
        names += ["colour_jitter", "num_classes", "shuffle", "seed", "drop_remainder", "skip_corrupt", "max_pixels"]
        digest = hashlib.sha256(self._labels.astype("int64").tobytes())
        for image in self._images:
            known = f"{image.name}\0{self._size_of(image)}" if isinstance(image, Path) else digest_of(image)
            digest.update(os.fsencode(f"{known}\n"))
        colours = None if self._colours is None else self._colours.digest
        return {name: getattr(self, name) for name in names} | {"colours": colours, "images": digest.hexdigest()}

    def _size_of(self, image: Path) -> int | None:
        try:
            return image.stat().st_size
        except OSError:
            if not self.skip_corrupt:
                raise
            return None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})

    def _made(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = slice(index * self.batch_size, (index + 1) * self.batch_size)
        count = len(self._images)
        rows = (order_of_epoch(count, self.seed, epoch) if self.shuffle else np.arange(count))[chosen]
        found: list[tuple[np.ndarray, int] | None] = [self._image(epoch, int(row)) for row in rows]
        whole = [each for each in found if each is not None]
        if not whole:
            whole = self._stand_in(epoch, chosen.start) if self.shuffle else []
        if not whole:
            names = ", ".join(str(self._images[row]) for row in rows[:3])
            raise ValueError(
                f"No file of batch {index} of epoch {epoch} is a whole image, as {names}: leave these out, or take "
                "larger batches."
            )
        if len(whole) < len(found) and self.shuffle:
            places = [place for place, each in enumerate(found) if each is not None] or [0]
            nexts = np.searchsorted(places, np.arange(len(found))) % len(places)
            whole = [whole[place] for place in nexts]
        images, labels = zip(*whole, strict=True)
        numbers = np.array(labels, "int64")
        one_hot = None if self.num_classes is None else np.eye(self.num_classes, dtype="float32")
        return np.stack(images), numbers if one_hot is None else one_hot[numbers]

    def _resized(self, size: tuple[int, ...], name: Path | str) -> tuple[int, int]:
        """Returns the size at which the shorter side is the wanted one; refuses what would be larger than an image."""
        height, width = size
        factor = self.shorter_side / min(height, width)
        resized = max(self.shorter_side, round(height * factor)), max(self.shorter_side, round(width * factor))
        most = max(self.max_pixels or _LARGEST, self.shorter_side * self.shorter_side)
        if resized[0] * resized[1] > most:
            raise ValueError(
                f"{name}: {height} x {width} pixels would become {resized[0]:,} x {resized[1]:,}, more than {most:,}: "
                "it is too narrow."
            )
        return resized

    def _stand_in(self, epoch: int, start: int) -> list[tuple[np.ndarray, int]]:
        """Returns the next whole image in the order of an epoch, from a place on and from its beginning then."""
        order = order_of_epoch(len(self._images), self.seed, epoch)
        for row in [*order[start:], *order[:start]]:
            found = self._image(epoch, int(row))
            if found is not None:
                return [found]
        return []

    def _image(self, epoch: int, row: int) -> tuple[np.ndarray, int] | None:
        """Returns an image and its label, or None if it is passed over."""
        image = self._images[row]
        try:
            pixels = pixels_of(image, self.channels, self.max_pixels)
            resized = self._resized(pixels.shape[:2], image if isinstance(image, Path) else f"image {row}")
        except (ValueError, FileNotFoundError) as error:
            if not self.skip_corrupt or not isinstance(image, Path):
                raise ValueError(f"{error} Pass skip_corrupt=True to go on without such files.") from error
            with self._lock:
                self._corrupt[image] = str(error)
            return None
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch, row])))
        down, right, mirrored = rng.random(3)
        pixels = fit_images(pixels[None], resized, None, f"image {row}")[0]
        if not self.random_crop:
            down = right = 0.5
        top, left = (
            int(part * (have - want + 1))
            for part, have, want in zip((down, right), resized, self.image_size, strict=True)
        )
        pixels = pixels[top : top + self.image_size[0], left : left + self.image_size[1]]
        if self.mirror and mirrored < 0.5:
            pixels = pixels[:, ::-1]
        floats = pixels.astype("float32") / np.float32(255)
        if self.colour_jitter and self._colours is not None:
            floats += self._colours.shift(rng.normal(0, self.colour_jitter, 3))
        return floats, int(self._labels[row])
