"""Several devices on PyTorch: processes that torchrun has started, and what they tell each other."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed


@contextlib.contextmanager
def begun(devices: int | None) -> Iterator[tuple[int, int, int]]:
    """Joins the processes that torchrun has started, each on the device of its rank."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if devices not in (None, processes):
        raise ValueError(
            f"devices must be the number of processes, {processes}; got {devices}. Start as many: "
            f"torchrun --nproc-per-node {devices} SCRIPT ..."
        )
    if processes == 1:
        yield 1, 0, 1
        return
    joins = not torch.distributed.is_initialized()
    if joins:
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
            if place >= there:
                raise ValueError(
                    f"A host must have a GPU for each of its processes; there are {there}, this is {place}."
                )
            torch.cuda.set_device(place)
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    try:
        yield processes, torch.distributed.get_rank(), processes
    finally:
        if joins:
            torch.distributed.destroy_process_group()


def wait_for_all() -> None:
    """Returns when every process has come here."""
    torch.distributed.all_reduce(torch.zeros(1, device="cpu"))


def from_first(array: np.ndarray) -> np.ndarray:
    """Returns the first process's array, of the same shape and dtype in all."""
    tensor = _as_bytes(array)
    torch.distributed.broadcast(tensor, 0)
    return tensor.numpy().view(array.dtype).reshape(array.shape)


def text_from_first(text: str) -> str:
    """Returns the first process's text."""
    length = int(from_first(np.array(len(text.encode()))))
    padded = text.encode()[:length].ljust(length)
    return from_first(np.frombuffer(padded, "uint8")).tobytes().decode() if length else ""


def of_all(array: np.ndarray) -> list[np.ndarray]:
    """Returns the array of each process, of the same shape and dtype in all."""
    mine = _as_bytes(array)
    found = [torch.empty_like(mine) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(found, mine)
    return [each.numpy().view(array.dtype).reshape(array.shape) for each in found]


def _as_bytes(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array).reshape(-1).view("uint8"))  # Some dtypes are none of PyTorch's NumPy.


def rows_of_all(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the rows of all processes' tensors, which may be of unequal number."""
    mine = tensor.detach().cpu()
    counts = [int(count) for count in of_all(np.array(len(mine)))]
    padded = torch.zeros((max(counts), *mine.shape[1:]), dtype=mine.dtype, device="cpu")
    padded[: len(mine)] = mine
    found = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(found, padded)
    return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)]).to(tensor.device)


class Agreement:
    """Whether any process has said yes, known to all at the next question; nobody waits for the answer to this one."""

    def __init__(self) -> None:
        self._asked: tuple[Any, torch.Tensor] | None = None

    def ask(self, mine: bool) -> bool:
        """Says yes or no, and returns whether anybody has said yes the last time."""
        answer = self._answer()
        flag = torch.tensor([int(mine)], dtype=torch.int32, device="cpu")
        self._asked = torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, async_op=True), flag
        return answer

    def close(self, mine: bool) -> bool:
        """Asks for the last time and waits for the answer."""
        before = self.ask(mine)
        return self._answer() or before

    def _answer(self) -> bool:
        if self._asked is None:
            return False
        work, flag = self._asked
        work.wait()
        self._asked = None
        return bool(flag[0])
