"""How far something is that takes more than a few seconds: on a terminal, by Keras's bar."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import keras

_shown: list[str] = []  # units of the bar that is on the terminal now


@contextlib.contextmanager
def progress(total: int | None, unit: str) -> Iterator[Callable[[], None]]:
    """Gives a function to be called after each part of the work; on a terminal it shows how many are done.

    Within a work whose bar is shown nothing is.

    Args:
        total: how many parts there are, None where that is not known.
        unit: what one of them is called.
    """
    if _shown or not sys.stdout.isatty():
        yield lambda: None
        return
    bar, done = keras.utils.Progbar(total, unit_name=unit), 0

    def advance() -> None:
        nonlocal done
        done += 1
        bar.update(done, finalize=False)

    _shown.append(unit)
    try:
        yield advance
    finally:
        _shown.pop()
        if done:
            bar.update(done, finalize=True)
