"""Takes 20 training steps of a small transformer on the backend in use and prints what must agree between backends."""

import json

import keras
import numpy as np
from lenet_steps import digest

from kerasblocks.data import TokenBatches, load_text
from kerasblocks.models import transformer_lm

STEPS = 20


def main():
    text = load_text()
    model = transformer_lm(vocabulary_size=text.tokenizer.vocabulary_size, num_layers=2, num_key_value_heads=2, seed=0)
    weights = digest(model.get_weights())
    optimizer = keras.optimizers.AdamW(2e-3, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = TokenBatches(text.train, context=32, batch_size=8, steps=STEPS, seed=0)
    losses = []
    for x, y in batches.iterate():
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x, y)))
    result = {
        "backend": keras.backend.backend(),
        "weights": weights,
        "batches": digest(np.ascontiguousarray(array) for batch in batches.iterate() for array in batch),
        "losses": losses,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
