"""A measurement in a process of its own, for a peak of memory is that of a process."""

import concurrent.futures
import multiprocessing
from collections.abc import Callable
from typing import Any, TypeVar

Found = TypeVar("Found")


def in_own_process(function: Callable[..., Found], *arguments: Any) -> Found:
    """Returns what a function gives in a process that has the device to itself: this one leaves it untouched."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(function, *arguments).result()
