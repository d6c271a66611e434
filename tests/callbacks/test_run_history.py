import csv

import keras
import numpy as np
import pytest

from kerasblocks.callbacks import RunHistory
from kerasblocks.training import RunDirectory


def compiled(learning_rate=0.1):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


def rows(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.start({})
    return run


def test_the_file_holds_what_history_holds(run):
    x, y = np.ones((4, 2)), np.zeros(4)
    history = compiled().fit(x, y, epochs=3, validation_data=(x, y), verbose=0, callbacks=[RunHistory(run)]).history
    assert [row["epoch"] for row in rows(run.path)] == ["0", "1", "2"]
    assert set(history) == {"loss", "val_loss", "learning_rate"}
    assert {name: [float(row[name]) for row in rows(run.path)] for name in history} == history


def test_the_learning_rate_is_the_schedules_after_the_epoch(run):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 8, 0.0)
    compiled(schedule).fit(np.ones((8, 2)), np.ones(8), batch_size=2, epochs=2, verbose=0, callbacks=[RunHistory(run)])
    assert [float(row["learning_rate"]) for row in rows(run.path)] == pytest.approx([0.05, 0.0])


def test_epochs_before_an_error_are_on_disk(run):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled().fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[RunHistory(run), Stop()])
    assert len(rows(run.path)) == 1
    assert sorted(entry.name for entry in run.path.iterdir()) == ["config.json", "history.csv"]
