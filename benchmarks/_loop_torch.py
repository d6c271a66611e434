"""LeNet-5, AlexNet and the small transformer in plain PyTorch, with the training loop that one would write for them."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks._loop_settings import BETA_1, EPSILON, LoopSettings


class Loop:
    """Trains one network; `epoch` takes a step with every batch.

    Args:
        settings: what the training is.
        weights: the starting weights, in the order and the layout of Keras.
    """

    def __init__(self, settings: LoopSettings, weights: Sequence[np.ndarray]) -> None:
        self._settings = settings
        self._model = _NETWORKS[settings.case](settings, [torch.tensor(each) for each in weights])
        parameters = list(self._model.parameters())
        groups = [
            {"params": [each for each in parameters if each.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
        ]
        betas = (BETA_1, settings.beta_2)
        self._optimizer = torch.optim.AdamW(groups, settings.rate, betas, EPSILON, fused=True)
        self._rate = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._share)
        self._sums = torch.zeros(2)

    def _share(self, step: int) -> float:
        """Returns the share of the peak rate."""
        warmup = self._settings.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (self._settings.steps - warmup)))

    def epoch(self, batches: Any) -> list[float]:
        """Takes a step with each batch and returns their losses, when the device has done them all."""
        losses = []
        for x, y in batches:
            inputs, wanted = torch.as_tensor(x), torch.as_tensor(y)
            logits = self._model(inputs)
            labels = wanted if wanted.is_floating_point() else wanted.long().flatten()
            share = self._settings.label_smoothing
            loss = functional.cross_entropy(logits.flatten(0, -2), labels, label_smoothing=share)
            torch.autograd.backward(loss)
            if self._settings.clipnorm is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.clipnorm)
            self._optimizer.step()
            self._rate.step()
            self._optimizer.zero_grad()
            self._sums[0] += loss.detach()
            if self._settings.accuracy:
                classes = labels.argmax(-1) if labels.is_floating_point() else labels
                self._sums[1] += (logits.argmax(-1).flatten() == classes).float().mean()
            losses.append(loss.detach())
        return [float(loss) for loss in losses]


class _LeNet5(nn.Module):
    def __init__(self, settings: LoopSettings, weights: Sequence[Any]) -> None:
        super().__init__()
        self.scale, self.offset = settings.scale, settings.offset[0]
        self.convolutions = nn.ModuleList([nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)])
        sizes = [400, 120, 84, weights[-1].shape[0]]
        self.dense = nn.ModuleList([nn.Linear(*pair) for pair in itertools.pairwise(sizes)])
        _take(self, weights, last_maps=16)

    def forward(self, x: Any) -> Any:
        x = (self.scale * x + self.offset).permute(0, 3, 1, 2)
        for layer in self.convolutions:
            x = functional.avg_pool2d(functional.relu(layer(x)), 2)
        x = functional.relu(self.dense[0](x.flatten(1)))
        return self.dense[2](functional.relu(self.dense[1](x)))


class _AlexNet(nn.Module):
    def __init__(self, settings: LoopSettings, weights: Sequence[Any]) -> None:
        super().__init__()
        self.scale, self.rate = settings.scale, settings.dropout
        self.register_buffer("offset", torch.tensor(settings.offset))
        maps = [weights[0].shape[2], *(weights[2 * number + 1].shape[0] for number in range(5))]
        shapes = [(11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)]  # window, stride, padding
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(before, after, window, stride, padding)
                for (before, after), (window, stride, padding) in zip(itertools.pairwise(maps), shapes, strict=True)
            ]
        )
        sizes = [weights[10].shape[0], *(weights[number].shape[0] for number in (11, 13, 15))]
        self.dense = nn.ModuleList([nn.Linear(*pair) for pair in itertools.pairwise(sizes)])
        _take(self, weights, last_maps=maps[-1])

    def forward(self, x: Any) -> Any:
        x = (self.scale * x + self.offset).permute(0, 3, 1, 2)
        for number, layer in enumerate(self.convolutions):
            x = functional.relu(layer(x))
            if number in (0, 1, 4):
                x = functional.max_pool2d(x, [min(3, side) for side in x.shape[2:]], 2)
        x = x.flatten(1)
        for layer in self.dense[:-1]:
            x = functional.relu(layer(functional.dropout(x, self.rate, self.training)))
        return self.dense[-1](x)


def _take(model: Any, weights: Sequence[Any], last_maps: int) -> None:
    """Takes the weights of Keras, whose flattened maps have the channels last."""
    layers = [*model.convolutions, *model.dense]
    for number, layer in enumerate(layers):
        kernel, bias = weights[2 * number : 2 * number + 2]
        if kernel.ndim == 4:
            kernel = kernel.permute(3, 2, 0, 1)
        else:
            if layer is model.dense[0]:
                places = kernel.shape[0] // last_maps
                kernel = kernel.reshape(places, last_maps, -1).permute(1, 0, 2).reshape(kernel.shape)
            kernel = kernel.T
        layer.weight.data, layer.bias.data = kernel.contiguous(), bias


class _Transformer(nn.Module):
    def __init__(self, settings: LoopSettings, weights: Sequence[Any]) -> None:
        super().__init__()
        embedding, *blocks, last = weights
        self.embedding, self.norm = nn.Parameter(embedding), nn.Parameter(last)
        self.blocks = nn.ModuleList(
            [_Block(settings.heads, blocks[place : place + 8]) for place in range(0, len(blocks), 8)]
        )

    def forward(self, tokens: Any) -> Any:
        x = functional.embedding(tokens, self.embedding)
        for block in self.blocks:
            x = block(x)
        return functional.linear(functional.rms_norm(x, x.shape[-1:], self.norm, 1e-6), self.embedding)


class _Block(nn.Module):
    def __init__(self, heads: tuple[int, int], weights: Sequence[Any]) -> None:
        super().__init__()
        joined, out, query_scale, key_scale, scale, gate_up, down, scale_2 = weights
        self.heads, self.groups = heads
        self.joined, self.out, self.gate_up, self.down = (
            nn.Parameter(kernel.T.contiguous()) for kernel in (joined, out, gate_up, down)
        )
        self.query_scale, self.key_scale, self.scale, self.scale_2 = map(
            nn.Parameter, (query_scale, key_scale, scale, scale_2)
        )

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        joined = functional.linear(functional.rms_norm(x, (width,), self.scale, 1e-6), self.joined)
        joined = joined.view(batch, length, self.heads + 2 * self.groups, -1)
        query, key, value = torch.split(joined, [self.heads, self.groups, self.groups], 2)
        query, key = (
            _turned(functional.rms_norm(each, each.shape[-1:], scale, 1e-6))
            for each, scale in ((query, self.query_scale), (key, self.key_scale))
        )
        seen = functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True, enable_gqa=True
        )
        x = x + functional.linear(seen.transpose(1, 2).reshape(batch, length, -1), self.out)
        hidden = functional.linear(functional.rms_norm(x, (width,), self.scale_2, 1e-6), self.gate_up)
        gate, up = hidden.chunk(2, -1)
        return x + functional.linear(functional.silu(gate) * up, self.down)


_angles: dict[tuple[int, int], tuple[Any, Any]] = {}


def _turned(x: Any) -> Any:
    length, half = x.shape[1], x.shape[-1] // 2
    if (length, half) not in _angles:
        angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        _angles[length, half] = angles.cos()[:, None], angles.sin()[:, None]
    cosine, sine = _angles[length, half]
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cosine - right * sine, right * cosine + left * sine], -1)


_NETWORKS = {"lenet5": _LeNet5, "alexnet": _AlexNet, "transformer": _Transformer}
