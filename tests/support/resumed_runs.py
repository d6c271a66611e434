"""A run with everything that a checkpoint must hold, and what it leaves."""

import keras
import numpy as np
from arrays import to_numpy

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches
from kerasblocks.training import Run

RNG = np.random.default_rng(0)
IMAGES = RNG.random((44, 6, 6, 1), "float32")
LABELS = RNG.integers(0, 3, 44)


def batches(seed=0, batch_size=4):
    return ArrayBatches(IMAGES, LABELS, batch_size=batch_size, seed=seed)


def model_of_all(optimizer=None, units=5):
    """Augmentation, BatchNorm, dropout with and without a seed of its own, and accumulated gradients."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.RandomFlip(),
            layers.RandomTranslation(0.2, 0.2),
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(units, activation="relu"),
            layers.Dropout(0.2, seed=3),
            layers.Dense(3),
        ]
    )
    optimizer = optimizer or keras.optimizers.AdamW(0.02, gradient_accumulation_steps=3)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def callbacks_of_all():
    return [
        WarmupCosine(),
        GradientNormLogger(),
        TerminateOnNaN(patience=2),
        keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True),
    ]


def start(folder, *, model=None, callbacks=None, epochs=4, every_steps=3, extra=(), data=None, **options):
    """Starts or resumes the run; returns model, callbacks and history."""
    keras.utils.set_random_seed(7)
    model = model_of_all() if model is None else model
    callbacks = callbacks_of_all() if callbacks is None else callbacks
    validation = IMAGES[:8], LABELS[:8]
    run = Run(folder, every_steps=every_steps, **options)
    history = run.fit(
        model,
        batches() if data is None else data,
        epochs=epochs,
        callbacks=[*callbacks, *extra],
        validation_data=validation,
        verbose=0,
    )
    return model, callbacks, history


def end_state(model):
    return [to_numpy(each) for each in [*model.variables, *model.optimizer.variables]]
