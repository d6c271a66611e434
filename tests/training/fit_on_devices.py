"""Prints the gradient norms and rates of a fit, data parallel where there is more than one device."""

import keras
from fits import BATCH, X, Y, small_model

from kerasblocks.callbacks import GradientNormLogger, WarmupCosine

if __name__ == "__main__":
    if len(keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    norms = GradientNormLogger()
    history = small_model().fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[norms, WarmupCosine(warmup=2)],
        validation_data=(X, Y),
    )
    distributed = keras.distribution.distribution() is not None
    print(int(distributed), *norms.history["grad_norm"], *history.history["learning_rate"])
