import keras
import numpy as np
import pytest
from resumed_runs import end_state, start


class Crash(keras.callbacks.Callback):
    """Ends the fit as a kill would, before a step or at the end of an epoch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.place = epoch, batch
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise ZeroDivisionError

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, "end") == self.place:
            raise ZeroDivisionError

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        self.place = None


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model, callbacks, history = start(folder, extra=[Crash(None, None)])
    return folder, end_state(model), callbacks, history.history


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def by_place(history):
    norms = history["per_variable"]
    return history | {"per_variable": [each if name == "step" else [*each.values()] for name, each in norms.items()]}


@pytest.mark.parametrize("place", [(0, 2), (1, 7), (2, "end")], ids=str)
def test_a_run_that_is_cut_off_ends_as_one_that_is_not(tmp_path, whole, place):
    folder, expected, callbacks, history = whole
    with pytest.raises(ZeroDivisionError):
        start(tmp_path, extra=[Crash(*place)])
    model, again, resumed = start(tmp_path, extra=[Crash(*place)])
    assert_same(end_state(model), expected)
    assert (tmp_path / "history.csv").read_bytes() == (folder / "history.csv").read_bytes()
    assert resumed.history == history
    np.testing.assert_equal(by_place(again[1].history), by_place(callbacks[1].history))
    assert again[2].bad_steps == callbacks[2].bad_steps
    assert again[3].wait == callbacks[3].wait
