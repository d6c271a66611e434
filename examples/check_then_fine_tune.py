"""A trained network is given a new task: the check-up looks at model, data and rate before the training begins.

KERAS_BACKEND=tensorflow python examples/check_then_fine_tune.py
"""

import sys

import keras
import numpy as np

from kerasblocks.callbacks import WarmupCosine
from kerasblocks.data import load_images
from kerasblocks.diagnostics import checkup, learning_rate_sweep
from kerasblocks.models import lenet5

keras.utils.set_random_seed(0)
digits = load_images("digits", image_size=32)
x, y = digits.x_train / np.float32(255), digits.y_train
x_test, y_test = digits.x_test / np.float32(255), digits.y_test
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# A network that knows the figures 0 to 4. Yours comes from keras.saving.load_model.
known = y < 5
trained = lenet5(num_classes=5, seed=0)
trained.compile(keras.optimizers.AdamW(5e-3), loss)
trained.fit(x[known], y[known], epochs=3, verbose=0)

# Its features under a new head for 5 to 9.
features = keras.Model(trained.inputs, trained.layers[-2].output)
model = keras.Sequential([features, keras.layers.Dense(5)])
new, new_test = y >= 5, y_test >= 5
data, validation = (x[new], y[new] - 5), (x_test[new_test], y_test[new_test] - 5)
model.compile(keras.optimizers.AdamW(1e-3), loss, metrics=["accuracy"])

# Look first. The model is afterwards what it was.
report = checkup(model, *data, validation_data=validation, budget_seconds=20)
if report.failed:
    sys.exit("Mend these first.")
sweep = learning_rate_sweep(model, *data)
print(sweep)
model.optimizer.learning_rate = sweep.suggestion or 1e-3

# Then train.
model.fit(*data, validation_data=validation, epochs=5, verbose=2, callbacks=[WarmupCosine()])
