"""Batches made by threads before they are asked for, whatever else is asked for meanwhile."""

import collections
import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import Any

Batch = tuple[Any, ...]


class Ahead:
    """Gives batches by epoch and index, and has threads make those that are likely to come next.

    Args:
        make: makes a batch of its epoch and index; called by several threads.
        length: batches in an epoch.
        changing: whether epochs differ; if not, an epoch is followed by itself, as in evaluation.
        threads: how many make batches.
        ahead: how many batches are made ahead.
    """

    _pool: concurrent.futures.ThreadPoolExecutor | None
    _coming: collections.OrderedDict[tuple[int, int], concurrent.futures.Future[Batch]]

    def __init__(self, make: Callable[[int, int], Batch], *, length: int, changing: bool, threads: int, ahead: int):
        self._make, self._length, self._changing = make, length, changing
        self._threads, self._ahead = threads, ahead
        self._begin()

    def __call__(self, epoch: int, index: int) -> Batch:
        """Returns a batch: one made ahead, or one made now."""
        if self._process != os.getpid():  # A process that forks leaves its threads behind.
            self._begin()
        with self._lock:
            wanted = self._coming.pop((epoch, index), None)
            following = self._following(epoch, index)
            for key in [key for key in self._coming if key not in following]:
                self._coming.pop(key).cancel()
            if following and self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, "kerasblocks-batches")
            if wanted is None and self._pool is not None:
                wanted = self._pool.submit(self._make, epoch, index)
            for key in following:
                if key not in self._coming and self._pool is not None:
                    self._coming[key] = self._pool.submit(self._make, *key)
        return self._make(epoch, index) if wanted is None else wanted.result()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_pool", "_coming")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()
        self._pool = None
        self._coming = collections.OrderedDict()

    def _following(self, epoch: int, index: int) -> list[tuple[int, int]]:
        places = range(index + 1, index + 1 + self._ahead)
        if not self._changing:
            return [(epoch, place % self._length) for place in places if place % self._length != index]
        return [(epoch + place // self._length, place % self._length) for place in places]
