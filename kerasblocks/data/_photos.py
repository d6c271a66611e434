"""Real photographs that scikit-learn carries: crops of its two sample images, those for testing from a part apart."""

from pathlib import Path

import numpy as np

from kerasblocks.data._raw import RawImages

_SIDE = 96
_TRAIN, _TEST = 200, 50  # crops of each photograph
_PARTS = (0.0, 0.65), (0.7, 1.0)  # of the width: no pixel is in both


def read_photos() -> RawImages:
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise ImportError("The embedded photos need scikit-learn. Install it with: pip install scikit-learn") from error
    photos = load_sample_images()
    rng = np.random.Generator(np.random.PCG64(0))
    splits = []
    for (begin, end), count in zip(_PARTS, (_TRAIN, _TEST), strict=True):
        crops = []
        for photo in photos.images:
            height, width = photo.shape[:2]
            tops = rng.integers(0, height - _SIDE + 1, count)
            lefts = rng.integers(int(begin * width), int(end * width) - _SIDE + 1, count)
            crops += [photo[top : top + _SIDE, left : left + _SIDE] for top, left in zip(tops, lefts, strict=True)]
        splits.append((np.stack(crops), np.repeat(np.arange(len(photos.images)), count)))
    names = tuple(Path(name).stem for name in photos.filenames)
    return RawImages(*splits[0], *splits[1], class_names=names)
