"""Distil a small student from a larger teacher, against a student that learns from the labels alone.

    python apps/distill.py                                       # scikit-learn's digits, 100 labels; about a minute
    python apps/distill.py --data DIR --labelled 1000 --seeds 5  # a folder of IDX files or of class folders
    python apps/distill.py --teacher runs/NAME/teacher.keras     # with a teacher that has been trained before

The teacher learns from all labels. The students are given a part of them: the plain one trains on the labelled images
alone, the distilled one on all images, those without a label by what the teacher says of them; both take as many steps,
from the same starting weights, once for each seed. The teacher is asked once, its outputs are kept.

A run leaves config.json, metrics.json, table.csv, comparison.png, teacher.keras, student.keras (distilled, of the first
seed) and a folder with a history and checkpoints for each training. One that was interrupted goes on when it is started
again with its run directory.
"""

import csv
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

from _launch import user_errors

with user_errors():
    from _options import RunOptions, end_if_not_finite, new_directory, start, train_on_devices

IMAGE_SIZE = 32
NO_LABEL = -1
MODELS = ("teacher", "plain", "distilled")
MEASURES = ("accuracy", "loss", "calibration_error", "agreement")


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Distil a student from a teacher."""

    data: str = "digits"
    """digits, mnist, fashion_mnist or cifar10; an .npz file; a folder of IDX files or with one folder a class."""
    labelled: int = 100
    """Images of which the students are told the label; 0 for all."""
    teacher: Path | None = None
    """A trained model to learn from, from images of 32 x 32 to logits; by default LeNet-5 is trained."""
    epochs: int = 10
    """Passes of the distilled student over all training images."""
    teacher_epochs: int = 10
    """Passes of the teacher over them."""
    batch_size: int = 32
    """Images in a step."""
    peak_learning_rate: float = 0.005
    """AdamW's learning rate at the end of the warmup, 5 % of all steps; then it falls to 0 along a cosine."""
    student_learning_rate: float | None = None
    """That of the students, plain and distilled; by default the same."""
    alpha: float = 0.1
    """Weight of the labels in the distilled student's loss; the rest is the teacher's."""
    temperature: float = 4.0
    """By which the logits of both are divided before they are compared."""
    seeds: int = 3
    """How many students of each kind."""

    def __post_init__(self) -> None:
        """Refuses values that no run can use."""
        rates = "peak_learning_rate", "student_learning_rate"
        self.check_positive("epochs", "teacher_epochs", "batch_size", *rates, "temperature", "seeds")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in 0..1; got {self.alpha}.")
        if self.labelled < 0:
            raise ValueError(f"labelled must be 0 (all) or more; got {self.labelled}.")


def compare(config: Config, is_first: bool) -> None:
    """Trains the teacher and the students, and reports; the first of several processes writes."""
    import keras
    import numpy as np

    from kerasblocks.callbacks import TerminateOnNaN, WarmupCosine
    from kerasblocks.data import ArrayBatches, load_images
    from kerasblocks.distillation import Distiller, TeacherCache
    from kerasblocks.models import lenet5
    from kerasblocks.training import Run, RunDirectory, environment

    # Data: which images are labelled is drawn from the seed.
    path = config.run_directory or new_directory("distill")
    with user_errors():
        data = load_images(config.data, image_size=IMAGE_SIZE, limit=config.limit)
        count = len(data.x_train)
        if config.labelled > count:
            raise ValueError(f"labelled must be {count} at most, the training images there are; got {config.labelled}.")
    chosen = np.sort(np.random.default_rng(config.seed).permutation(count)[: config.labelled or count])
    labels = np.full(count, NO_LABEL)
    labels[chosen] = data.y_train[chosen]
    options: dict[str, Any] = {"batch_size": config.batch_size, "seed": config.seed}
    all_batches = ArrayBatches(data.x_train, data.y_train, **options)
    labelled_batches = ArrayBatches(data.x_train[chosen], data.y_train[chosen], **options)
    test_batches = ArrayBatches(data.x_test, data.y_test, batch_size=500, shuffle=False)

    # Models: the student is a LeNet-5 of an eighth of the parameters.
    keras.config.set_dtype_policy(config.precision)
    white = 255 if data.x_train.dtype == np.uint8 else 1
    mean, spread = float(data.x_train.mean() / white), float(data.x_train.std() / white) or 1.0

    def standardized(network: Any) -> Any:
        rescaling = keras.layers.Rescaling(1 / spread, -mean / spread, name="standardize")
        return keras.Sequential([keras.Input(data.image_shape), rescaling, network])

    def student_of(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        pooled = [[layers.Conv2D(width, 5, activation="relu"), layers.AveragePooling2D(2)] for width in (4, 8)]
        dense = layers.Dense(32, activation="relu"), layers.Dense(data.num_classes, dtype="float32")
        return standardized(keras.Sequential([*pooled[0], *pooled[1], layers.Flatten(), *dense]))

    facts = {"options": config.deciding(), "data": {"source": data.source, "fingerprint": data.fingerprint}}

    def train(name: str, model: Any, batches: ArrayBatches, epochs: int, rate: float | None = None) -> float:
        """Trains a model, or goes on with it, and returns the seconds."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=NO_LABEL)
        model.compile(keras.optimizers.AdamW(rate or config.peak_learning_rate, weight_decay=0.05), loss)
        run = Run(path / name, every_steps=config.checkpoint_steps, config=facts)
        guard = TerminateOnNaN(report_path=path / name / "nonfinite.json")
        run.fit(model, batches, epochs=epochs, callbacks=[WarmupCosine(warmup=0.05), guard], verbose=0)
        end_if_not_finite(guard, is_first)
        if is_first:
            print(f"{name}: {run.seconds:.1f} s", flush=True)
        return run.seconds

    with user_errors():
        directory = RunDirectory(path, overwrite=config.overwrite, resume=True)
        if is_first:
            directory.start({**facts, "environment": environment()})
            print(f"{count} training images of {data.source}, {len(chosen)} labelled for the students; run {path}")

        # The teacher, asked once.
        if config.teacher is None:
            keras.utils.set_random_seed(config.seed)
            teacher = standardized(lenet5(data.image_shape, data.num_classes, seed=config.seed))
            train("teacher", teacher, all_batches, config.teacher_epochs)
        else:
            teacher = keras.saving.load_model(config.teacher)
        cache = TeacherCache.write(teacher, all_batches, path / "teacher-outputs", "float32")
        taught_batches = cache.join(ArrayBatches(data.x_train, labels, **options))

        # The students, in pairs from the same weights, with as many steps.
        steps, rate = config.epochs * len(all_batches), config.student_learning_rate
        students: dict[str, list[Any]] = {"plain": [], "distilled": []}
        for seed in range(config.seed, config.seed + config.seeds):
            for name, found in students.items():
                found.append(student_of(seed))
                if name == "plain":
                    train(f"plain-{seed}", found[-1], labelled_batches, -(-steps // len(labelled_batches)), rate)
                else:
                    taught = Distiller(
                        student=found[-1], teacher=cache, alpha=config.alpha, temperature=config.temperature
                    )
                    train(f"distilled-{seed}", taught, taught_batches, config.epochs, rate)
    if not is_first:
        return

    # Report: what each says of the test images.
    logits = {"teacher": [teacher.predict(test_batches, verbose=0)]}
    logits |= {name: [each.predict(test_batches, verbose=0) for each in found] for name, found in students.items()}
    measured = {
        name: [measures(each, logits["teacher"][0], data.y_test) for each in found] for name, found in logits.items()
    }
    models = {"teacher": teacher, "plain": students["plain"][0], "distilled": students["distilled"][0]}
    table = [row(name, model, measured[name], speed(model, test_batches)) for name, model in models.items()]
    pairs = zip(measured["distilled"], measured["plain"], strict=True)
    gains = [one["accuracy"] - other["accuracy"] for one, other in pairs]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
    gain = {"mean": statistics.mean(gains), "standard_error": error, "seeds": len(gains)}
    directory.write_json("metrics.json", {"models": measured, "gain": gain, "steps_of_a_student": steps})
    with directory.writing("table.csv") as file, file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    with directory.writing("comparison.png") as file:
        plot(measured, file)
    for name, model in (("teacher.keras", teacher), ("student.keras", students["distilled"][0])):
        with directory.writing(name) as file:
            model.save(file)
    for each in [dict.fromkeys(table[0]) | {name: name for name in table[0]}, *table]:
        print("".join(f"{value:<{10 if index == 0 else 19}}" for index, value in enumerate(each.values())))
    spread_of_gain = "" if error is None else f" ± {error:.4f} (standard error)"
    print(f"distilled against plain: {gain['mean']:+.4f}{spread_of_gain}; see {path}")


def measures(logits: Any, of_teacher: Any, labels: Any) -> dict[str, float]:
    """Returns what a model is worth on the test images."""
    import keras
    import numpy as np

    from kerasblocks.diagnostics import expected_calibration_error

    log_p = keras.ops.convert_to_numpy(keras.ops.log_softmax(np.asarray(logits, "float32")))
    values = (
        (log_p.argmax(1) == labels).mean(),
        -log_p[np.arange(len(labels)), labels].mean(),
        expected_calibration_error(np.exp(log_p), labels),
        (log_p.argmax(1) == of_teacher.argmax(1)).mean(),
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def speed(model: Any, batches: Any) -> float:
    """Returns images a second of predictions, the best of three passes."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.predict(batches, verbose=0)
        seconds.append(time.perf_counter() - start)
    return float(batches.num_samples / min(seconds))


def row(name: str, model: Any, measured: list[dict[str, float]], images_per_second: float) -> dict[str, Any]:
    """Returns a line of the table: means, and the spread over the seeds."""
    found: dict[str, Any] = {"model": name, "parameters": model.count_params()}
    for measure in MEASURES:
        values = [each[measure] for each in measured]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        found[measure] = f"{statistics.mean(values):.4f}{spread}"
    return found | {"images_per_second": round(images_per_second)}


def plot(measured: dict[str, list[dict[str, float]]], file: Path) -> None:
    """Draws each measure of each model, a point a seed and a bar for the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(MEASURES), 3.2), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(MEASURES)), MEASURES, strict=True):
        values = [[each[measure] for each in measured[name]] for name in MODELS]
        axes.bar(MODELS, [statistics.mean(each) for each in values], color=["0.8", "tab:blue", "tab:orange"], alpha=0.6)
        for place, each in enumerate(values):
            axes.plot([place] * len(each), each, "k.", markersize=4)
        axes.set_title(measure.replace("_", " "))
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    start(Config, __doc__, lambda config: train_on_devices(config, compare))
