"""Signals that ask a process to leave, noted for a moment at which nothing is lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_NOTED = (signal.SIGTERM, signal.SIGINT)


class Leaving:
    """Whether a signal has come."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextlib.contextmanager
def noted(wanted: bool, *, alone: bool) -> Iterator[Leaving]:
    """Notes SIGTERM and SIGINT while it holds; only in the main thread.

    The second one does what it did before in a process that is `alone`; one of several gets both Ctrl-C and what its
    launcher makes of it, and its launcher ends it if it does not leave.
    """
    leaving = Leaving()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield leaving
        return

    def note(number: int, frame: FrameType | None) -> None:
        if leaving.signal is not None:
            return
        leaving.signal = signal.Signals(number)
        if alone:
            put_back()
        now = "; a second signal leaves at once" if alone else ""
        print(f"{leaving.signal.name}: leaving when this step is saved{now}", file=sys.stderr, flush=True)  # noqa: T201

    before = {number: signal.signal(number, note) for number in _NOTED}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield leaving
    finally:
        put_back()
