"""Takes 20 training steps of LeNet-5 on the backend in use and prints what must agree between backends."""

import hashlib
import json
import sys

import keras

from kerasblocks.data import ArrayBatches, load_images
from kerasblocks.models import lenet5
from kerasblocks.schedules import WarmupCosineDecay
from kerasblocks.training import exclude_vectors_from_weight_decay

STEPS, BATCH_SIZE = 20, 32


def digest(arrays):
    """SHA-256 of the arrays' bytes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(array.tobytes())
    return total.hexdigest()


def compiled(variant):
    model = lenet5(variant=variant, seed=0)
    schedule = WarmupCosineDecay(peak_learning_rate=0.005, warmup_steps=2, total_steps=STEPS)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.3)
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def main(variant):
    data = load_images("digits", image_size=32, limit=STEPS * BATCH_SIZE // 2)
    batches = ArrayBatches(data.x_train, data.y_train, batch_size=BATCH_SIZE, seed=0)
    steps = [batches.batch(epoch, index) for epoch in range(2) for index in range(len(batches))]
    model = compiled(variant)
    weights = digest(model.get_weights())
    losses = []
    for x, y in steps:
        model.reset_metrics()
        losses.append(float(model.train_on_batch(x, y)))
    history = compiled(variant).fit(batches, epochs=2, verbose=0).history["loss"]
    result = {
        "backend": keras.backend.backend(),
        "weights": weights,
        "batches": digest(array for step in steps for array in step),
        "losses": losses,
        "epoch_losses": history,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
