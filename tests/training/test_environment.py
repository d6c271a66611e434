import importlib
import json
import os

import keras
import numpy as np

import kerasblocks
from kerasblocks.training import environment


def test_names_what_is_in_use():
    found = environment()
    backend = os.environ["KERAS_BACKEND"]
    assert found["backend"] == backend
    assert found["backend_version"] == importlib.import_module(backend).__version__
    assert (found["keras"], found["numpy"]) == (keras.__version__, np.__version__)
    assert found["kerasblocks"] == kerasblocks.__version__
    assert found["devices"]
    assert all(isinstance(name, str) for name in found["devices"])
    assert json.loads(json.dumps(found)) == found
