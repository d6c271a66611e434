"""Runs that are killed and resumed: what a checkpoint must hold is in them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import (
    ArrayBatches,
    AugmentedBatches,
    ImageBatches,
    TokenBatches,
    colour_components,
    load_images,
)
from kerasblocks.models import alexnet, lenet5, transformer_lm
from kerasblocks.training import Run

Case = Literal["everything", "lenet5", "transformer", "photos"]

RNG = np.random.default_rng(0)
IMAGES = RNG.random((44, 6, 6, 1), "float32")
LABELS = RNG.integers(0, 3, 44)
EPOCHS = 4
STEPS = EPOCHS * 11


def task(case: Case) -> tuple[Any, Any, tuple[Any, Any], list[Any]]:
    """Returns the compiled model, its batches, the validation data and the callbacks.

    "everything" has augmentation, BatchNorm, dropout with and without a seed of its own, and accumulated gradients;
    "transformer" recomputes blocks with dropout; "photos" are cropped, mirrored, coloured and mixed for AlexNet.
    """
    keras.utils.set_random_seed(7)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    callbacks = [
        WarmupCosine(),
        GradientNormLogger(),
        TerminateOnNaN(patience=2),
        keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True),
    ]
    layers = keras.layers
    if case == "transformer":
        tokens = np.random.default_rng(1).integers(0, 12, 400)
        model = transformer_lm(vocabulary_size=12, num_layers=2, num_heads=2, width=16, dropout=0.2, remat=True, seed=0)
        model.compile(keras.optimizers.AdamW(0.01, global_clipnorm=1.0), loss)
        batches = TokenBatches(tokens, context=8, batch_size=4, steps=STEPS // EPOCHS)
        return model, batches, batches.batch(EPOCHS, 0), callbacks
    if case == "photos":
        data = load_images("photos", limit=len(IMAGES))
        photos, test = (
            ImageBatches(
                data.x_train,
                data.y_train,
                image_size=63,
                batch_size=4,
                random_crop=True,
                mirror=True,
                colour_jitter=0.1,
                colours=colour_components(data.x_train),
                num_classes=2,
            ),
            ImageBatches(data.x_test, data.y_test, image_size=63, batch_size=8, num_classes=2, shuffle=False),
        )
        model = alexnet((63, 63, 3), 2, "single", width=0.05, seed=0)
        model.compile(keras.optimizers.AdamW(0.005), keras.losses.CategoricalCrossentropy(from_logits=True))
        return model, AugmentedBatches(photos, "mixup"), test.batch(0, 0), callbacks
    if case == "everything":
        model = keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                layers.RandomFlip(),
                layers.RandomTranslation(0.2, 0.2),
                layers.Conv2D(3, 3),
                layers.BatchNormalization(),
                layers.Dropout(0.3),
                layers.Flatten(),
                layers.Dense(5, activation="relu"),
                layers.Dropout(0.2, seed=3),
                layers.Dense(3),
            ]
        )
        model.compile(keras.optimizers.AdamW(0.02, gradient_accumulation_steps=3), loss, metrics=["accuracy"])
        images = IMAGES
    else:
        model = lenet5((32, 32, 1), 3, seed=0)
        model.compile(keras.optimizers.AdamW(0.005), loss, metrics=["accuracy"])
        images = np.pad(IMAGES, ((0, 0), (13, 13), (13, 13), (0, 0)))
    return model, ArrayBatches(images, LABELS, batch_size=4), (images[:8], LABELS[:8]), callbacks


def start(folder: Path, case: Case = "everything", extra: Sequence[Any] = (), **options: Any) -> tuple[Any, Any, Any]:
    """Starts or resumes the run; returns the model, its callbacks and the history."""
    model, batches, validation, callbacks = task(case)
    run = Run(folder, **{"every_steps": 3} | options)
    history = run.fit(
        model, batches, epochs=EPOCHS, callbacks=[*callbacks, *extra], validation_data=validation, verbose=0
    )
    return model, callbacks, history


def start_with_keras_alone(folder: Path, case: Case, extra: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Does the same with Keras's BackupAndRestore, which saves as often."""
    model, batches, validation, callbacks = task(case)
    backup = keras.callbacks.BackupAndRestore(folder / "checkpoints", save_freq=3)
    history = model.fit(
        batches,
        epochs=EPOCHS,
        callbacks=[*callbacks, *extra, backup],
        validation_data=validation,
        shuffle=False,
        verbose=0,
    )
    return model, callbacks, history


def end_state(model: Any) -> list[np.ndarray]:
    """Returns all numbers that the model and its optimizer end with."""
    variables = [*model.variables, *model.optimizer.variables]
    return [np.asarray(keras.ops.convert_to_numpy(variable.value)) for variable in variables]
