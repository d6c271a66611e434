"""What `mkdocs build` makes of the code: a page of the reference for each package, and the pictures."""

import ast
import os
from pathlib import Path
from typing import Any

import numpy as np
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PACKAGES = ("layers", "callbacks", "training", "diagnostics", "data", "distillation", "models", "schedules", "ops")


def on_files(files: Files, config: Any) -> Files:
    """Adds the reference's pages and the pictures to those that lie in the folder."""
    for package in PACKAGES:
        files.append(File.generated(config, f"reference/{package}.md", content=reference(package)))
    for name, picture in pictures().items():
        files.append(File.generated(config, f"pictures/{name}.png", content=picture))
    return files


def reference(package: str) -> str:
    """Returns the page of a package: its first line, and each public name."""
    tree = ast.parse((ROOT / "kerasblocks" / package / "__init__.py").read_text(encoding="utf-8"))
    names = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    parts = [f"# kerasblocks.{package}", ast.get_docstring(tree) or ""]
    parts += [f"::: kerasblocks.{package}.{name}" for name in sorted(filter(None, names), key=str.lower)]
    return "\n\n".join(parts) + "\n"


def pictures() -> dict[str, bytes]:
    """Returns the pictures of the guide, drawn by the functions that it tells of."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    from kerasblocks.callbacks import GradientNormLogger, WarmupCosine
    from kerasblocks.data import load_images
    from kerasblocks.diagnostics import checkup, learning_rate_sweep, plot_learning_curves
    from kerasblocks.models import lenet5

    digits = load_images("digits", image_size=32)
    x, y = digits.x_train / np.float32(255), digits.y_train
    validation = digits.x_test / np.float32(255), digits.y_test

    def model() -> Any:
        made = lenet5(seed=0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        made.compile(keras.optimizers.AdamW(3e-3), loss, metrics=["accuracy"])
        return made

    keras.utils.set_random_seed(0)
    trained = model()
    callbacks = [WarmupCosine(), GradientNormLogger(per_variable=False)]
    history = trained.fit(x, y, epochs=8, validation_data=validation, callbacks=callbacks, verbose=0).history
    report = checkup(trained, x, y, validation_data=validation, verbose=0)
    return {
        "sweep": drawn(learning_rate_sweep(model(), x, y).plot),
        "checkup": drawn(report.plot),
        "curves": drawn(lambda path: plot_learning_curves(history, path)),
    }


def drawn(draw: Any) -> bytes:
    """Returns the picture that a function draws to a file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        draw(path)
        return path.read_bytes()
