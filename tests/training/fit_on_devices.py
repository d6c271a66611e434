"""Prints norms, rates and the bad step of a fit, data parallel where there is more than one device."""

import keras
import numpy as np
from fits import BATCH, X, Y, small_model

from kerasblocks.callbacks import GradientNormLogger, TerminateOnNaN, WarmupCosine

if __name__ == "__main__":
    if len(keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    norms, guard = GradientNormLogger(), TerminateOnNaN()
    x = np.concatenate([X, X])
    x[len(X) + BATCH] = np.nan
    history = small_model().fit(
        x,
        np.concatenate([Y, Y]),
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[norms, WarmupCosine(warmup=2), guard],
        validation_data=(X, Y),
    )
    distributed = keras.distribution.distribution() is not None
    print(int(distributed), guard.report["step"], *norms.history["grad_norm"][:-1], *history.history["learning_rate"])
