import json

import numpy as np

from kerasblocks._json_values import json_values


def test_nested_values_become_those_of_json():
    given = {
        1: np.float32(0.5),
        "a": [np.int64(3), float("nan"), -np.inf],
        "b": (np.array([1.5, np.nan]), None, "x", True),
    }
    expected = {"1": 0.5, "a": [3, None, None], "b": [[1.5, None], None, "x", True]}
    assert json.loads(json.dumps(json_values(given), allow_nan=False)) == expected
