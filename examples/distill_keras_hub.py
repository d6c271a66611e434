"""A ResNet of KerasHub teaches a small network of yours.

    pip install keras-hub
    KERAS_BACKEND=torch python examples/distill_keras_hub.py

With a preset (`keras_hub.models.ResNetBackbone.from_preset("resnet_18_imagenet")`) the teacher begins with weights that
KerasHub downloads; here it begins with none and is trained first, so that the script needs no network.
"""

import keras
import keras_hub
import numpy as np

from kerasblocks.callbacks import WarmupCosine
from kerasblocks.data import ArrayBatches, load_images
from kerasblocks.distillation import Distiller, LogitsDistillation

EPOCHS_OF_TEACHER, EPOCHS = 4, 10

keras.utils.set_random_seed(0)
digits = load_images("digits", image_size=32, channels=3)
x, x_test = digits.x_train / np.float32(255), digits.x_test / np.float32(255)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

# The teacher: a backbone of KerasHub under a head of Keras's own layers. (`fit` of KerasHub's classifiers does not
# shuffle; at a constant rate BatchNormalization's statistics fall behind the weights: test 0.66 instead of 0.96.)
backbone = keras_hub.models.ResNetBackbone(
    input_conv_filters=[64],
    input_conv_kernel_sizes=[3],
    stackwise_num_filters=[64],
    stackwise_num_blocks=[1],
    stackwise_num_strides=[1],
    block_type="basic_block",
    image_shape=digits.image_shape,
)
teacher = keras.Sequential([backbone, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(digits.num_classes)])
teacher.compile(keras.optimizers.AdamW(5e-3), loss, metrics=["accuracy"])
teacher.fit(x, digits.y_train, batch_size=64, epochs=EPOCHS_OF_TEACHER, verbose=2, callbacks=[WarmupCosine()])

# The student learns from its labels by a tenth, and from the teacher.
student = keras.Sequential([keras.Input(digits.image_shape), keras.layers.AveragePooling2D(2), keras.layers.Flatten()])
student.add(keras.layers.Dense(32, activation="relu"))
student.add(keras.layers.Dense(digits.num_classes))
distiller = Distiller(student=student, teacher=teacher, alpha=0.1, losses=[LogitsDistillation(temperature=3.0)])
distiller.compile(keras.optimizers.AdamW(5e-3), loss, metrics=["accuracy"])
distiller.fit(ArrayBatches(x, digits.y_train, batch_size=64, seed=0), epochs=EPOCHS, verbose=2)
print(f"test accuracy {distiller.evaluate(x_test, digits.y_test, verbose=0, return_dict=True)['accuracy']:.3f}")
