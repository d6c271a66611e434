"""A run's history on disk after every epoch, whole at any moment; Keras's CSVLogger writes in place."""

from kerasblocks.training._history_file import HistoryFile


class RunHistory(HistoryFile):
    """Writes the logs of all epochs so far to the run's `history.csv`, one row an epoch, from 0.

    Unless the logs have a `learning_rate`, the optimizer's at the end of the epoch joins them, so that `History` and
    the callbacks that stand behind this one in the list have it too. The file is written anew to a temporary name and
    renamed every epoch.

    Args:
        run: the started run directory.

    Example:

    >>> import tempfile
    >>> import keras, numpy as np
    >>> from kerasblocks.callbacks import RunHistory
    >>> from kerasblocks.training import RunDirectory
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = RunDirectory(folder)
    ...     run.start({})
    ...     _ = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[RunHistory(run)])
    ...     (run.path / "history.csv").read_text().splitlines()[0]
    'epoch,loss,learning_rate'
    """
