"""Train LeNet-5 on handwritten digits, or on your own images, with any Keras backend.

    python apps/lenet.py                                  # scikit-learn's 1,797 digits, under a minute on 2 cores
    python apps/lenet.py --variant 1998 --backend torch   # the network of the paper, on PyTorch
    python apps/lenet.py --data DIR --epochs 15           # a folder of IDX files or of class folders
    python apps/lenet.py --predict FILE                   # classify an image with the newest run

A run leaves config.json, history.csv, metrics.json, curves.png, confusion.png, model.keras, checkpoints and
TensorBoard event files in its run directory; one that is stopped by numbers that are not finite leaves
nonfinite.json. One that was interrupted or killed goes on when it is started again with its run directory.
"""

import dataclasses
import math
import sys
import zipfile
from pathlib import Path
from typing import Literal

from _launch import user_errors

with user_errors():
    from _options import RunOptions, end_if_not_finite, new_directory, newest_run, peak_of_run, start, train_on_devices

IMAGE_SIZE = 32  # the input of LeNet-5


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Train LeNet-5, or classify an image with a trained one."""

    data: str = "digits"
    """digits, mnist, fashion_mnist or cifar10; an .npz file; a folder of IDX files or with one folder a class."""
    variant: Literal["modern", "1998"] = "modern"
    """Today's LeNet-5 (61,706 parameters) or the paper's (60,000)."""
    epochs: int = 40
    """Passes over the training images."""
    batch_size: int = 32
    """Images in a step."""
    peak_learning_rate: float = 0.005
    """AdamW's learning rate at the end of the warmup."""
    warmup: float = 0.05
    """Part of all steps in which the learning rate rises to its peak; then it falls to 0 along a cosine."""
    weight_decay: float = 0.3
    """AdamW's weight decay, times the learning rate; not applied to biases and scales."""
    label_smoothing: float = 0.1
    """Share of every label that is spread over all classes during training."""
    predict: Path | None = None
    """Classify this image file with the trained model of the run directory, by default the newest runs/lenet-*."""
    invert: bool = False
    """With --predict: swap black and white first, for dark strokes on light paper."""

    def __post_init__(self) -> None:
        """Refuses values that no run can use, and options that would go unused."""
        self.check_positive("epochs", "batch_size", "peak_learning_rate")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup must lie in 0..1, a part of all steps; got {self.warmup}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must lie in 0..infinity; got {self.weight_decay}.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in 0..1, below 1; got {self.label_smoothing}.")
        of_training = {"data", "variant", "epochs", "batch_size", "peak_learning_rate", "warmup", "weight_decay"}
        of_training |= {"label_smoothing", "seed", "precision", "overwrite", "limit", "checkpoint_steps", "devices"}
        for field in dataclasses.fields(self):
            unused = field.name in of_training if self.predict else field.name == "invert"
            if unused and getattr(self, field.name) != field.default:
                raise ValueError(f"{field.name} has no effect {'with' if self.predict else 'without'} predict.")


def train(config: Config, is_first: bool) -> None:
    """Trains, tests and leaves a run directory; the first of several processes writes it."""
    import keras
    import numpy as np

    from kerasblocks.callbacks import GradientNormLogger, TensorBoardScalars, TerminateOnNaN, WarmupCosine
    from kerasblocks.data import ArrayBatches, load_images
    from kerasblocks.diagnostics import plot_confusion, plot_learning_curves
    from kerasblocks.models import lenet5
    from kerasblocks.ops import smoothed_cross_entropy
    from kerasblocks.training import Run, exclude_vectors_from_weight_decay, peak_memory

    # Data: 32 x 32 pixels, uint8 until a batch is made.
    directory = config.run_directory or new_directory("lenet")
    config = dataclasses.replace(config, run_directory=directory)
    with user_errors():
        data = load_images(config.data, image_size=IMAGE_SIZE, limit=config.limit)
        if data.num_classes < 2:
            raise ValueError(f"{data.source}: there must be at least two classes; got {data.class_names}.")
    train_batches = ArrayBatches(data.x_train, data.y_train, batch_size=config.batch_size, seed=config.seed)
    ordered_train = ArrayBatches(data.x_train, data.y_train, batch_size=500, shuffle=False)
    test_batches = ArrayBatches(data.x_test, data.y_test, batch_size=500, shuffle=False)

    # Model: pixels of mean 0 and spread 1 for LeNet-5, whose weights NumPy draws.
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    white = 255 if data.x_train.dtype == np.uint8 else 1
    mean, spread = float(data.x_train.mean() / white), float(data.x_train.std() / white) or 1.0
    network = lenet5(data.image_shape, data.num_classes, config.variant, seed=config.seed)
    standardize = keras.layers.Rescaling(1 / spread, -mean / spread, name="standardize")
    model = keras.Sequential([keras.Input(data.image_shape), standardize, network])

    # Optimizer: no decay of biases and scales.
    optimizer = keras.optimizers.AdamW(config.peak_learning_rate, weight_decay=config.weight_decay)
    exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    model.compile(
        optimizer, lambda y, logits: smoothed_cross_entropy(y, logits, config.label_smoothing), metrics=["accuracy"]
    )

    # Fit: warmup, then cosine to 0. What was interrupted goes on.
    facts = {
        "options": config.deciding(),
        "data": {
            "source": data.source,
            "fingerprint": data.fingerprint,
            "train_images": len(data.x_train),
            "test_images": len(data.x_test),
            "image_shape": data.image_shape,
            "class_names": data.class_names,
        },
        "parameters": model.count_params(),
    }
    with user_errors():
        run = Run(directory, every_steps=config.checkpoint_steps, config=facts, overwrite=config.overwrite)
        path = run.directory.path
        if is_first:
            print(f"{len(data.x_train)} training and {len(data.x_test)} test images of {data.source}; run {path}")
        guard = TerminateOnNaN(report_path=path / "nonfinite.json")
        history = run.fit(
            model,
            train_batches,
            epochs=config.epochs,
            validation_data=test_batches,
            callbacks=[
                WarmupCosine(warmup=config.warmup),
                GradientNormLogger(per_variable=False),
                guard,
                TensorBoardScalars(path / "events"),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    end_if_not_finite(guard, is_first)
    if not is_first:
        return

    # Report: the plain cross-entropy, which the saved model keeps as its loss.
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    train_loss, train_accuracy = model.evaluate(ordered_train, verbose=0)
    test_loss, test_accuracy = model.evaluate(test_batches, verbose=0)
    predicted = np.argmax(model.predict(test_batches, verbose=0), axis=-1)
    with run.directory.writing("model.keras") as file:
        model.save(file)
    with run.directory.writing("curves.png") as file:
        plot_learning_curves(history.history, file)
    with run.directory.writing("confusion.png") as file:
        plot_confusion(data.y_test, predicted, data.class_names, file)
    metrics = {
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "seconds": run.seconds,
        "images_per_second": len(data.x_train) * config.epochs / run.seconds,
        "peak_memory_bytes": peak_of_run(run.directory, peak_memory()),
    }
    run.directory.write_json("metrics.json", metrics)
    print(f"test accuracy {test_accuracy:.4f}, test loss {test_loss:.4f}, {run.seconds:.1f} s; see {path}")


def predict(config: Config, image_file: Path) -> None:
    """Prints the classes and probabilities of one image."""
    import keras
    import numpy as np

    from kerasblocks.data import load_image
    from kerasblocks.training import read_run_config

    with user_errors():
        directory = config.run_directory or newest_run("lenet")
        facts = read_run_config(directory).get("data", {})
        if not {"image_shape", "class_names"} <= set(facts) or not zipfile.is_zipfile(directory / "model.keras"):
            raise ValueError(f"{directory}: no finished run of this app: its model or configuration is not whole.")
        height, width, channels = facts["image_shape"]
        image = load_image(image_file, image_size=(height, width), channels=channels)
        model = keras.saving.load_model(directory / "model.keras")
    if config.invert:
        image = 255 - image
    logits = model.predict(image[None].astype("float32") / 255, verbose=0)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits[0]))
    print(f"{image_file} by {directory / 'model.keras'}")
    for index in np.argsort(-probabilities):
        print(f"{facts['class_names'][index]:>20}  {probabilities[index]:.4f}")


if __name__ == "__main__":
    start(
        Config,
        __doc__,
        lambda config: predict(config, config.predict) if config.predict else train_on_devices(config, train),
    )
