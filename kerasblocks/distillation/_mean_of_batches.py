"""The running mean of a loss in the logs, without what Keras's own metric does beyond it in every step."""

from typing import Any

import keras
from keras.src.losses.loss import unscale_loss_for_distribution

from kerasblocks.ops._floating import cast_to


class MeanOfBatches(keras.metrics.Mean):
    """Σ loss · samples / Σ samples over batches."""

    def update_state(self, loss: Any, count: Any) -> None:
        loss = cast_to(unscale_loss_for_distribution(loss), self.dtype)
        count = keras.ops.cast(count, self.dtype)
        self.total.assign_add(loss * count)
        self.count.assign_add(count)
