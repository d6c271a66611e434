"""Train AlexNet on photographs or on your own folder of images, with any Keras backend.

    python apps/alexnet.py                                       # scikit-learn's two photographs, one or two minutes
    python apps/alexnet.py --data cifar10 --epochs 30            # downloaded by Keras, enlarged
    python apps/alexnet.py --data DIR --image-size 227 --width 1 # a folder with one folder of images a class
    python apps/alexnet.py --data DIR --image-size 227 --width 1 --variant 2012 --recipe paper --epochs 90

A run leaves config.json, history.csv, metrics.json, curves.png, confusion.png, costs.txt, model.keras, checkpoints and
TensorBoard event files in its run directory; one that is stopped by numbers that are not finite leaves
nonfinite.json. One that was interrupted or killed goes on when it is started again with its run directory.
"""

import dataclasses
import math
import sys
from typing import Any, Literal

from _launch import user_errors

with user_errors():
    from _options import RunOptions, end_if_not_finite, new_directory, peak_of_run, start, train_on_devices


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Train AlexNet on a folder of images."""

    data: str = "photos"
    """photos or cifar10; an .npz file; a folder with one folder of images a class, or with train and test (or val)."""
    variant: Literal["single", "2012"] = "single"
    """The later network with one tower, or the published one with two."""
    recipe: Literal["modern", "paper"] = "modern"
    """AdamW, warmup-cosine, label smoothing, mixup; or SGD with momentum 0.9, cut tenfold thrice, colour jitter."""
    augment: Literal["none", "randaugment", "mixup", "cutmix"] | None = None
    """Beside crops and mirror images, by keras-cv if it is installed, else by Keras; by default the recipe's."""
    mirror: bool = True
    """Mirror half of the training images; not for writing."""
    image_size: int = 63
    """Pixels a side, 63 or more; the paper's are 227."""
    width: float = 0.25
    """Factor of the numbers of maps and hidden units; the paper's network has 1."""
    dropout: float = 0.5
    """Rate of dropout at the two hidden dense layers."""
    epochs: int = 24
    """Passes over the training images."""
    batch_size: int = 32
    """Images in a step."""
    learning_rate: float | None = None
    """Peak of the modern recipe, 0.001 by default; start of the paper's, 0.01."""
    warmup: float = 0.1
    """Part of all steps in which the modern recipe's rate rises to its peak."""
    weight_decay: float | None = None
    """AdamW's, times the learning rate, 0.05 by default; of the paper's recipe its 0.0005, in the gradient."""
    label_smoothing: float = 0.1
    """Share of every label that the modern recipe spreads over all classes."""
    ten_crops: bool = False
    """Test with the mean over the corners, the middle and their mirror images, as the paper does."""
    skip_corrupt: bool = False
    """Pass over files that are no whole images, and count them."""
    max_pixels: int | None = None
    """Refuse images with more pixels; by default Pillow's limit, some 89 million."""

    def __post_init__(self) -> None:
        """Refuses values that no run can use, and options that would go unused."""
        self.check_positive("image_size", "width", "epochs", "batch_size", "learning_rate", "max_pixels")
        for name, most in (("warmup", 1), ("weight_decay", math.inf)):
            value = getattr(self, name)
            if value is not None and not (0 <= value <= most and value < math.inf):
                raise ValueError(f"{name} must lie in 0..{most:g}; got {value}.")
        for name in ("label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in 0..1, below 1; got {getattr(self, name)}.")
        if self.ten_crops and not self.mirror:
            raise ValueError("ten_crops mirrors the images, which no_mirror forbids.")
        if self.recipe == "paper":
            for field in dataclasses.fields(self):
                if field.name in ("warmup", "label_smoothing") and getattr(self, field.name) != field.default:
                    raise ValueError(f"{field.name} has no effect with recipe paper.")
            if self.epochs < 4:
                raise ValueError(
                    f"epochs must be at least 4 with recipe paper, whose rate is cut thrice; got {self.epochs}."
                )


def train(config: Config, is_first: bool) -> None:
    """Trains, tests and leaves a run directory; the first of several processes writes it."""
    import keras
    import numpy as np

    from kerasblocks.callbacks import GradientNormLogger, TensorBoardScalars, TerminateOnNaN, WarmupCosine
    from kerasblocks.data import (
        AugmentedBatches,
        ImageBatches,
        colour_components,
        find_images,
        load_images,
        names_class_folders,
    )
    from kerasblocks.diagnostics import plot_confusion, plot_learning_curves
    from kerasblocks.models import alexnet, cost
    from kerasblocks.schedules import StepDecay
    from kerasblocks.training import Run, exclude_vectors_from_weight_decay, peak_memory

    # Data: files or arrays, cropped, mirrored and mixed at random to train, the middle to test; one-hot labels.
    directory = config.run_directory or new_directory("alexnet")
    config = dataclasses.replace(config, run_directory=directory)
    paper = config.recipe == "paper"
    source: Any
    with user_errors():
        if names_class_folders(config.data):
            source = find_images(config.data, limit=config.limit)
            train_images, test_images = source.train_files, source.test_files
        else:
            if config.skip_corrupt or config.max_pixels:
                raise ValueError("skip_corrupt and max_pixels are for folders of images; data is none.")
            source = load_images(config.data, channels=3, limit=config.limit)
            train_images, test_images = source.x_train, source.x_test
        if source.num_classes < 2:
            raise ValueError(f"{source.source}: there must be at least two classes; got {source.class_names}.")
        common: dict[str, Any] = {
            "image_size": config.image_size,
            "skip_corrupt": config.skip_corrupt,
            "max_pixels": config.max_pixels,
        }
        colours = colour_components(train_images, max_pixels=config.max_pixels)
        train_batches: Any = ImageBatches(
            train_images,
            source.y_train,
            batch_size=config.batch_size,
            random_crop=True,
            mirror=config.mirror,
            colour_jitter=0.1 if paper else 0.0,
            colours=colours if paper else None,
            num_classes=source.num_classes,
            seed=config.seed,
            **common,
        )
        kind, library = config.augment or ("none" if paper else "mixup"), None
        cropped = train_batches
        if kind != "none":
            train_batches = AugmentedBatches(cropped, kind, seed=config.seed)
            library = train_batches.library
        test_batches = ImageBatches(
            test_images,
            source.y_test,
            batch_size=max(config.batch_size, 64),
            num_classes=source.num_classes,
            shuffle=False,
            **common,
        )

        # Model: pixels less their mean; weights drawn by NumPy.
        keras.utils.set_random_seed(config.seed)
        keras.config.set_dtype_policy(config.precision)
        shape = (config.image_size, config.image_size, 3)
        decay = config.weight_decay if config.weight_decay is not None else 5e-4 if paper else 0.05
        network = alexnet(
            shape,
            source.num_classes,
            config.variant,
            config.dropout,
            width=config.width,
            weight_decay=decay if paper else 0.0,
            seed=config.seed,
        )
    # The paper's pixels run to 255, its network's weights fit those.
    scale = 255.0 if config.variant == "2012" else 4.0
    standardize = keras.layers.Rescaling(scale, [-scale * float(each) for each in colours.mean], name="standardize")
    model = keras.Sequential([keras.Input(shape), standardize, network])

    # Optimizer: SGD whose rate falls tenfold three times, or AdamW with no decay of biases.
    optimizer: Any
    if paper:
        every = math.ceil(config.epochs * len(train_batches) / 4)
        rate = StepDecay(initial_learning_rate=config.learning_rate or 0.01, factor=0.1, every=every)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    else:
        optimizer = keras.optimizers.AdamW(config.learning_rate or 1e-3, weight_decay=decay)
        exclude_vectors_from_weight_decay(optimizer, model.trainable_variables)
    metrics: list[Any] = ["accuracy"]
    if source.num_classes > 5:
        metrics.append(keras.metrics.TopKCategoricalAccuracy(5, name="top_5"))
    smoothing = 0.0 if paper else config.label_smoothing
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    model.compile(optimizer, loss, metrics=metrics)

    # Fit. What was interrupted goes on.
    facts = {
        "options": config.deciding(),
        "data": {
            "source": source.source,
            "fingerprint": source.fingerprint,
            "train_images": len(train_images),
            "test_images": len(test_images),
            "class_names": source.class_names,
        },
        "augmentation": {"kind": kind, "library": library},
        "parameters": model.count_params(),
    }
    with user_errors():
        run = Run(directory, every_steps=config.checkpoint_steps, config=facts, overwrite=config.overwrite)
        path = run.directory.path
        if is_first:
            print(
                f"{len(train_images)} training and {len(test_images)} test images of {source.source}, "
                f"{model.count_params():,} parameters; augmentation: {kind}{f' by {library}' if library else ''}; "
                f"run {path}"
            )
        guard = TerminateOnNaN(report_path=path / "nonfinite.json")
        history = run.fit(
            model,
            train_batches,
            epochs=config.epochs,
            validation_data=test_batches,
            callbacks=[
                *([] if paper else [WarmupCosine(warmup=config.warmup)]),
                GradientNormLogger(per_variable=False),
                guard,
                TensorBoardScalars(path / "events"),
            ],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    end_if_not_finite(guard, is_first)
    if not is_first:
        return

    # Report: probabilities of the middle, or of ten crops.
    if config.ten_crops:
        common |= {"image_size": test_batches.shorter_side, "shorter_side": test_batches.shorter_side}
    whole = ImageBatches(test_images, source.y_test, batch_size=64, shuffle=False, **common)
    found = [(_probabilities(model, images, config.image_size), labels) for images, labels in whole.iterate()]
    probabilities, labels = (np.concatenate(each) for each in zip(*found, strict=True))
    # A class ranks behind those that are as probable, or not finite.
    ranks = (~(probabilities < probabilities[np.arange(len(labels)), labels][:, None])).sum(axis=1) - 1
    accuracies = {"test_accuracy": float((ranks < 1).mean())}
    if source.num_classes > 5:
        accuracies["test_top_5"] = float((ranks < 5).mean())
    corrupt = len({*cropped.corrupt, *test_batches.corrupt, *whole.corrupt})
    with run.directory.writing("model.keras") as file:
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        model.save(file)
    with run.directory.writing("costs.txt") as file:
        file.write_text(f"{cost(model)}\n", encoding="utf-8")
    with run.directory.writing("curves.png") as file:
        plot_learning_curves(history.history, file)
    with run.directory.writing("confusion.png") as file:
        plot_confusion(labels, probabilities.argmax(axis=-1), source.class_names, file)
    run.directory.write_json(
        "metrics.json",
        {
            **accuracies,
            "seconds": run.seconds,
            "images_per_second": len(train_images) * config.epochs / run.seconds,
            "peak_memory_bytes": peak_of_run(run.directory, peak_memory()),
            "corrupt_files": corrupt,
        },
    )
    told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in accuracies.items())
    passed_over = f", {corrupt} corrupt files passed over" if corrupt else ""
    print(f"{told}, {run.seconds:.1f} s{passed_over}; see {path}")


def _probabilities(model: Any, images: Any, side: int) -> Any:
    """Returns the probabilities of images, the mean over ten crops where they are larger than the model's."""
    import keras

    height, width = images.shape[1:3]
    down, right = height - side, width - side
    places = {(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)}
    crops = [images[:, top : top + side, left : left + side] for top, left in sorted(places)]
    if down or right:
        crops += [crop[:, :, ::-1] for crop in crops]
    found = [keras.ops.softmax(model.predict_on_batch(crop)) for crop in crops]
    return sum(keras.ops.convert_to_numpy(each) for each in found) / len(found)


if __name__ == "__main__":
    start(Config, __doc__, lambda config: train_on_devices(config, train))
