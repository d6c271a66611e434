"""The functions of PyTorch that `plain` gives there."""

from typing import Any

import torch
from torch import abs as abs  # noqa: A004 - the name it has everywhere
from torch import clip as clip
from torch import exp as exp
from torch import expm1 as expm1
from torch import log1p as log1p
from torch import sinh as sinh
from torch import tanh as tanh
from torch import where as where


def log_softmax(x: Any) -> Any:
    """Returns the logarithm of the softmax over the last axis."""
    return torch.log_softmax(x, -1)


def sum(x: Any) -> Any:  # noqa: A001 - the name it has everywhere
    """Returns the sum over the last axis, which is kept."""
    return torch.sum(x, -1, keepdim=True)
