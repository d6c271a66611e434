"""Data sets that Keras downloads and caches; offline, the error names the ways to pass local files."""

import urllib.error

import keras

from kerasblocks.data._raw import RawImages

_CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}
KERAS_DATASETS = tuple(_CLASS_NAMES)
_NETWORK_ERRORS = (ConnectionError, TimeoutError, urllib.error.URLError)


def read_keras_dataset(name: str) -> RawImages:
    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:
        # Keras raises a bare Exception when a download fails; anything else is not about the network.
        if not (isinstance(error, _NETWORK_ERRORS) or "URL fetch failure" in str(error)):
            raise
        raise ConnectionError(
            f"{name!r} is not in Keras's cache and could not be downloaded; this machine seems to be offline "
            f"({error}). Pass a folder of IDX files, a folder with one folder of images a class, or an .npz "
            "file instead, or use the embedded 'digits'."
        ) from error
    return RawImages(x_train, y_train, x_test, y_test, _CLASS_NAMES[name])
