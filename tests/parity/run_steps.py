"""Starts or resumes a run without random numbers: python run_steps.py FOLDER [crash]."""

import sys

import keras
import numpy as np

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine
from kerasblocks.data import ArrayBatches
from kerasblocks.models import lenet5
from kerasblocks.training import Run


class Crash(keras.callbacks.Callback):
    """Ends the process as a kill would, in the middle of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if sys.argv[2:] == ["crash"] and (self.epoch, batch) == (3, 1):
            sys.exit(0)


rng = np.random.default_rng(0)
images, labels = rng.random((16, 32, 32, 1), "float32"), rng.integers(0, 10, 16)
model = lenet5((32, 32, 1), 10, seed=0)
model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
callbacks = [WarmupCosine(), GradientNormLogger(), TerminateOnNaN(), Crash()]
batches = ArrayBatches(images, labels, batch_size=8)
Run(sys.argv[1], every_steps=1).fit(model, batches, epochs=14, callbacks=callbacks, verbose=0)
