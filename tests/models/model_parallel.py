"""Fits a small transformer on one device of JAX, then split over two, and prints the losses of both and the shards."""

import json

import keras
import numpy as np

from kerasblocks.data import TokenBatches
from kerasblocks.models import generate, transformer_layout, transformer_lm


def losses():
    model = transformer_lm(vocabulary_size=12, num_layers=2, num_heads=4, num_key_value_heads=2, width=16, seed=0)
    model.compile(keras.optimizers.AdamW(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tokens = np.random.default_rng(0).integers(0, 12, 300)
    history = model.fit(TokenBatches(tokens, context=8, batch_size=4, steps=5), epochs=4, verbose=0)
    kernel = model.get_layer("feed_forward_block_0").body.gate_up.kernel.value
    text = generate(model, tokens[:5], 6, temperature=0.0)
    return history.history["loss"], kernel.addressable_shards[0].data.shape, text.tolist()


if __name__ == "__main__":
    alone = losses()
    mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], ["cpu:0", "cpu:1"])
    parallel = keras.distribution.ModelParallel(layout_map=transformer_layout(mesh), batch_dim_name="batch")
    keras.distribution.set_distribution(parallel)
    print(json.dumps({"alone": alone, "split": losses()}))
