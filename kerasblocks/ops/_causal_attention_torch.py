"""Causal attention for PyTorch: `scaled_dot_product_attention`, which keeps no weights for the gradient."""

from typing import Any

from torch.nn import functional


def causal_attention(query: Any, key: Any, value: Any, mask: Any) -> Any:
    """Returns the attention."""
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    outputs = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if mask is None else mask[:, None],
        is_causal=mask is None,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return outputs.transpose(1, 2)
