"""nanoGPT's training loop, in a process of its own: times a block of steps whenever a line is read.

Two frameworks in one process would take each other's processor: TensorFlow's idle threads slow PyTorch's down by half.
"""

import sys
import time
from typing import Any

import numpy as np
import torch


def main(folder: str, steps: int, first: int, vocabulary: int, context: int, batch: int) -> None:
    """Prints the seconds of one of `steps`, of which the `first` are not counted, once for each line of the input."""
    sys.path.insert(0, folder)
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    torch.manual_seed(1337)
    tokens = np.random.default_rng(0).integers(0, vocabulary, 100_000)
    sizes = {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": context, "vocab_size": vocabulary}
    model = GPT(GPTConfig(dropout=0.0, bias=False, **sizes))
    optimizer = model.configure_optimizers(1e-1, 1e-3, (0.9, 0.99), "cpu")

    def draw() -> tuple[Any, Any]:
        starts = torch.randint(len(tokens) - context, (batch,))
        rows = [torch.from_numpy(tokens[start : start + context + 1]) for start in starts]
        return torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])

    print("ready", flush=True)
    for _ in sys.stdin:
        begin, (x, y) = 0.0, draw()
        for number in range(steps):
            if number == first:
                begin = time.perf_counter()
            _, value = model(x, y)
            x, y = draw()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        print((time.perf_counter() - begin) / (steps - first), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
