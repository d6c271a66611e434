import keras
import numpy as np
import pytest
from gradients import assert_close

from kerasblocks.layers import DropPath, ResidualBlock, RMSNorm, SwiGLU, Swish

BACKEND = keras.backend.backend()
LAYERS = {
    "RMSNorm": lambda: RMSNorm(),
    "RMSNorm over two axes": lambda: RMSNorm(axis=(1, 2), zero_centered=True),
    "SwiGLU": lambda: SwiGLU(use_bias=True),
    "Swish": lambda: Swish(1.5, trainable_beta=True),
    "DropPath": lambda: DropPath(0.2),
    "ResidualBlock": lambda: ResidualBlock(SwiGLU(), normalization="rms", scale="layerscale"),
    "ResidualBlock with a projection": lambda: ResidualBlock(keras.layers.Dense(9), normalization="rms", order="post"),
}


@pytest.fixture(params=LAYERS)
def model(request):
    inputs = keras.Input((5, 8))
    outputs = keras.layers.Dense(8)(LAYERS[request.param]()(inputs))  # the exporters ask for a weight
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def batches():
    return [np.random.default_rng(size).normal(size=(size, 5, 8)).astype("float32") for size in (1, 3)]


@pytest.mark.skipif(BACKEND == "torch", reason="Keras exports no SavedModel from PyTorch.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_saved_models_compute_the_same(model, tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    loaded = tensorflow.saved_model.load(tmp_path / "saved")
    for x in batches():
        assert_close(loaded.serve(x).numpy(), keras.ops.convert_to_numpy(model(x)), 1e-5)


@pytest.mark.skipif(BACKEND == "jax", reason="Keras's export from JAX to ONNX asks for a package of its own.")
@pytest.mark.filterwarnings("ignore")  # of the exporters, about themselves
def test_onnx_models_with_an_open_batch_compute_the_same(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model(batches()[0])  # Keras asks that the model has been called
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (tensor,) = session.get_inputs()
    assert not isinstance(tensor.shape[0], int)
    for x in batches():
        (output,) = session.run(None, {tensor.name: x})
        assert_close(output, keras.ops.convert_to_numpy(model(x)), 1e-5)
