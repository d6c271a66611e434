import csv
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from processes import run

from kerasblocks.training import Replicas, current_replicas, data_parallel

BACKEND = keras.backend.backend()
PROCESSES = 2 if BACKEND == "torch" else 1


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process has seen of the fits, and the folder with what they have written."""
    here, out = Path(__file__).parent, tmp_path_factory.mktemp("devices")
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2") if BACKEND == "torch" else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here.parents[1], here.parent / "support"))))
        patch.setenv("OMP_NUM_THREADS", "1")
        run(*launcher, here / "fit_on_two_devices.py", out, backend=BACKEND)
    return [json.loads((out / f"{process}.json").read_text()) for process in range(PROCESSES)], out


def close(actual, expected, tolerance):
    np.testing.assert_allclose(np.array(actual, "float64"), np.array(expected, "float64"), rtol=tolerance, atol=1e-7)


def test_devices_and_processes_are_told(found):
    for process, each in enumerate(found[0]):
        assert each["replicas"] == {"count": 2, "process": process, "processes": PROCESSES}


@pytest.mark.parametrize("case", ["plain", "distilled"])
def test_two_devices_give_what_one_gives(found, case):
    (first, *_), _ = found
    together, alone = first["together"][case], first["alone"][case]
    assert together["steps"] == alone["steps"] == len(alone["norms"]) == 20
    close(together["losses"], alone["losses"], 1e-5)
    close(together["norms"], alone["norms"], 1e-4)
    assert set(together["history"]) == set(alone["history"])
    for name in alone["history"]:
        close(together["history"][name], alone["history"][name], 1e-5 if name != "grad_norm" else 1e-4)


@pytest.mark.parametrize(("case", "tolerance"), [("scaled", 2e-3), ("embedded", 1e-4)])
def test_scaled_clipped_and_sparse_gradients_are_averaged_once_where_no_callback_asks(found, case, tolerance):
    (first, *_), _ = found
    together, alone = first["together"][case], first["alone"][case]
    for one, other in zip(together["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_a_transformer_trains_on_two_devices_as_on_one(found):
    first = found[0][0]
    together, alone = (first[kind]["language"] for kind in ("together", "alone"))
    np.testing.assert_allclose(together["losses"], alone["losses"], rtol=1e-5)
    for name, values in alone["history"].items():
        np.testing.assert_allclose(together["history"][name], values, rtol=1e-4, err_msg=name)


def test_a_loss_that_is_no_mean_is_right_or_refused(found):
    for each in found[0]:
        together = each["together"]["sum"]
        if BACKEND == "jax":
            assert together["steps"] == 5
        else:
            assert "has reduction='sum'. Use 'sum_over_batch_size', or JAX." in together["refused"]


def test_accumulated_gradients_or_a_clear_refusal(found):
    (first, *_), _ = found
    together, alone = first["together"]["accumulated"], first["alone"]["accumulated"]
    if BACKEND == "tensorflow":
        assert "gradient_accumulation_steps does not work on several devices; got" in together["refused"]
    else:
        close(together["losses"], alone["losses"], 1e-5)


def test_a_bad_sample_on_one_device_stops_all_in_half_precision(found):
    ends = [each["together"]["bad"] for each in found[0]]
    plain = found[0][0]["together"]["plain"]
    for end in ends:
        step = end["stopped"]
        assert 0 < step < 5
        close(end["norms"][:step], plain["norms"][:step], 1e-2)
        assert np.isfinite(np.concatenate([np.ravel(weight) for weight in end["weights"]])).all()
        assert end["weights"] == ends[0]["weights"]
        assert end["inputs"][0].startswith("x: 5 of 80 numbers, in 1 of 16 samples")


def test_a_signal_to_one_process_is_left_on_by_all_and_the_run_goes_on_with_the_same_bits(found):
    for each in found[0]:
        together = each["together"]
        assert together["left"] == {"left": 143}
        assert 0 < together["resumed"]["steps"] < together["noisy"]["steps"] == 10
        assert together["resumed"]["weights"] == together["noisy"]["weights"]
        assert together["resumed"]["history"] == together["noisy"]["history"]
        assert together["noisy"]["weights"] == found[0][0]["together"]["noisy"]["weights"]


def test_the_first_process_writes(found):
    _, out = found
    with (out / "together" / "plain" / "norms" / "grad_norm.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["variable"] == "all"]
    assert steps == sorted(set(steps))
    assert len((out / "together" / "plain" / "log.csv").read_text().splitlines()) == 5
    assert (out / "together" / "plain" / "best.keras").is_file()


def test_a_callback_that_only_writes_is_called_in_the_first_process_alone(found):
    for process, each in enumerate(found[0]):
        assert each["together"]["plain"]["written"] == (0 if process else 4)


def test_one_device_takes_over_what_two_have_saved(found):
    (first, *_), _ = found
    assert first["taken over"]["steps"] == 0
    assert first["taken over"]["weights"] == first["together"]["plain"]["weights"]
    assert first["taken over"]["history"] == first["together"]["plain"]["history"]


def test_one_device_is_as_none_and_is_put_back():
    with data_parallel(1) as replicas:
        assert replicas == current_replicas() == Replicas()
        with pytest.raises(ValueError, match="data_parallel is in force already"), data_parallel(1):
            pass
    with data_parallel(1):
        pass


@pytest.mark.parametrize("devices", [0, 1.5, "two"])
def test_a_bad_number_of_devices_is_refused(devices):
    with pytest.raises((TypeError, ValueError), match="devices must be"), data_parallel(devices):
        pass


def test_more_devices_than_there_are_is_refused():
    keras.ops.convert_to_numpy(keras.ops.ones(1) + 1)  # The framework is in use.
    with pytest.raises(ValueError, match=r"devices must be .*; got 977"), data_parallel(977):
        pass


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Variables belong to a strategy on TensorFlow only.")
def test_a_model_that_was_made_outside_is_refused(found):
    (first,), _ = found
    assert first["outside"].startswith("The model was made outside of the strategy in force: make it inside")


def test_a_batch_with_fewer_samples_than_devices_is_refused(found):
    for each in found[0]:
        refused = each["together"]["small"]["refused"]
        assert refused.startswith("A batch has 1 samples, too few for 2 devices: take larger batches")
