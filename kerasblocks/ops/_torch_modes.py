"""When PyTorch is doing more than computing and differentiating, so that hand-written gradients stand in its way."""

from typing import Any

import torch
from torch.autograd import forward_ad


def is_traced() -> bool:
    """Tells whether an exporter or compiler records the operations, which it wants plain and fuses itself."""
    return torch.compiler.is_compiling() or torch._C._is_tracing() or torch.onnx.is_in_onnx_export()


def casts_itself(tensor: Any) -> bool:
    """Tells whether `torch.autocast` chooses the dtypes, of which a gradient written by hand knows nothing."""
    return torch.is_autocast_enabled(tensor.device.type)


def is_transformed(*tensors: Any) -> bool:
    """Tells whether `torch.func` transforms or forward-mode derivatives are at work."""
    if torch._C._are_functorch_transforms_active():
        return True
    unpack: Any = forward_ad.unpack_dual
    return any(unpack(each).tangent is not None for each in tensors if each is not None)
