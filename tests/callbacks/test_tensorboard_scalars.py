import sys

import keras
import numpy as np
import pytest
from tensorboard_events import read_scalars

from kerasblocks.callbacks import TensorBoardScalars


def fit(folder, epochs=2, **options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = TensorBoardScalars(folder)
    return model.fit(np.ones((4, 2)), np.ones(4), epochs=epochs, verbose=0, callbacks=[callback], **options)


def test_writes_every_epochs_logs_under_train_and_validation(tmp_path):
    history = fit(tmp_path, validation_data=(np.ones((2, 2)), np.zeros(2))).history
    for folder, name in (("train", "loss"), ("validation", "val_loss")):
        expected = [("epoch_loss", epoch, np.float32(value)) for epoch, value in enumerate(history[name])]
        assert read_scalars(tmp_path / folder) == expected


def test_a_second_fit_adds_to_the_folder(tmp_path):
    fit(tmp_path, epochs=1)
    fit(tmp_path, epochs=1)
    assert [tag for tag, _, _ in read_scalars(tmp_path / "train")] == ["epoch_loss"] * 2


def test_epochs_before_an_error_are_whole_on_disk(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = TensorBoardScalars(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[callback, Stop()])
    assert len(read_scalars(tmp_path / "train")) == 1


def test_an_unusable_folder_ends_the_fit_before_it_begins(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        fit(tmp_path / "file" / "events", epochs=1)


@pytest.mark.parametrize("value", [None, "text", np.ones(2)], ids=["none", "text", "vector"])
def test_entries_that_are_no_numbers_are_named(tmp_path, value):
    with pytest.raises(ValueError, match="writes single numbers; the log entry 'odd' is"):
        TensorBoardScalars(tmp_path).on_epoch_end(0, {"odd": value})


def test_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(ImportError, match=r"tensorboardX\. Install it with: pip install tensorboardX"):
        TensorBoardScalars(tmp_path)
