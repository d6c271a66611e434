"""What a hand-written training loop is told of the training that it repeats."""

import dataclasses
from typing import Literal

Case = Literal["lenet5", "alexnet", "transformer"]
BETA_1, EPSILON = 0.9, 1e-7  # of Keras's AdamW


@dataclasses.dataclass(frozen=True)
class LoopSettings:
    """A network, its loss and its optimizer, AdamW with warmup and cosine.

    Attributes:
        case: which network.
        steps: updates of the whole schedule.
        warmup_steps: those of them in which the rate rises.
        rate: peak learning rate.
        weight_decay: of what is no vector.
        beta_2: of AdamW.
        clipnorm: bound of the global gradient norm.
        label_smoothing: share of each label that all classes get.
        scale: factor of the pixels.
        offset: what is added to them, one for each channel.
        dropout: rate of AlexNet's dropouts.
        accuracy: whether it is measured in every step.
        heads: of the transformer's attention, and those of keys and values.
    """

    case: Case
    steps: int
    warmup_steps: int
    rate: float
    weight_decay: float
    beta_2: float = 0.999
    clipnorm: float | None = None
    label_smoothing: float = 0.0
    scale: float = 1.0
    offset: tuple[float, ...] = (0.0,)
    dropout: float = 0.0
    accuracy: bool = True
    heads: tuple[int, int] = (4, 2)
