"""A residual block around any layers; Keras has only the addition."""

import copy
import functools
import inspect
from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_number, as_rate
from kerasblocks.layers._remat import rematerialized
from kerasblocks.layers.drop_path import DropPath
from kerasblocks.layers.rms_norm import RMSNorm
from kerasblocks.ops._floating import cast_to

_LAYER_SCALE = 1e-5
_PROBE = 240  # divisible by the usual strides; every size that divides it is told apart


@keras.saving.register_keras_serializable(package="kerasblocks")
class ResidualBlock(keras.layers.Layer):
    """Adds to the input what the body makes of it.

    y = P(x) + s · D(body(N(x))) with order `"pre"`, y = N(P(x) + s · D(body(x))) with order `"post"`, where N is the
    normalization, s the scale, D drops whole samples while training, and P is the identity, or a projection where
    the body changes the shape.

    Args:
        body: a layer, or a list of layers that are called one after the other.
        normalization: None, `"rms"` (`RMSNorm`), `"layer"` (`LayerNormalization`), `"batch"`
            (`BatchNormalization`), or a layer.
        order: `"pre"` or `"post"`.
        projection: `"auto"` projects where the body changes the shape: for images, volumes, and sequences whose length
            changes, by a 1×1 convolution of the places that the body's strides leave, by a dense layer for other
            sequences and vectors, both without bias. A layer is always used; False refuses a body that changes the
            shape.
        scale: None for 1, a number, `"rezero"` (one trained number that starts at 0, so that without projection
            and with order `"pre"` the block starts as the identity), or `"layerscale"` (one trained number a
            channel that starts at 1e-5).
        drop_path: probability that a sample's branch is dropped while training, 0 ≤ drop_path < 1.
        remat: whether what the branch keeps for the gradient is computed anew in the backward pass, which takes less
            memory and the time of one more forward pass.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, ...)`.
        training: passed on to the body, the normalization, and the dropping of samples.
        mask: passed on to the layers of the body that take one.
        **kwargs: passed on, as it is and not normalized, to every layer of the body whose `call` takes an argument of
            this name. A `MultiHeadAttention` or `GroupQueryAttention` of the body that is given no `value` attends to
            its own input.

    Returns:
        A tensor of the shape of the body's output, in the compute dtype.

    Raises:
        ValueError: a body that is no layer, another unknown option, a number outside its range; a body whose output
            cannot be added to its input or to a projection of it.
        TypeError: a call argument that no layer of the body takes.

    Source: He et al., "Identity mappings in deep residual networks", ECCV 2016; Bachlechner et al., "ReZero is all
    you need", UAI 2021; Touvron et al., "Going deeper with image transformers", ICCV 2021 (LayerScale); Huang et al.,
    "Deep networks with stochastic depth", ECCV 2016.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import ResidualBlock, SwiGLU
    >>> block = ResidualBlock(SwiGLU(), normalization="rms", scale="rezero")
    >>> x = keras.ops.ones((2, 5, 8))
    >>> bool(keras.ops.all(block(x) == x))
    True
    >>> strided = ResidualBlock([keras.layers.Conv2D(16, 3, strides=2, padding="same")])
    >>> strided.compute_output_shape((None, None, None, 4))
    (None, None, None, 16)
    """

    def __init__(
        self,
        body: Any,
        *,
        normalization: Any = None,
        order: str = "pre",
        projection: Any = "auto",
        scale: Any = None,
        drop_path: float = 0.0,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        layers = list(body) if isinstance(body, list | tuple) else [body]
        if not layers or not all(isinstance(layer, keras.layers.Layer) for layer in layers):
            raise ValueError(f"body must be a layer or a list of layers; got {body!r}.")
        _check_choice("normalization", normalization, (None, "rms", "layer", "batch"))
        _check_choice("projection", projection, (False, "auto"))
        if order not in ("pre", "post"):
            raise ValueError(f"order must be 'pre' or 'post'; got {order!r}.")
        if isinstance(scale, str) and scale not in ("rezero", "layerscale"):
            raise ValueError(f"scale must be None, a number, 'rezero' or 'layerscale'; got {scale!r}.")
        # Keras looks for tensors in the arguments that the signature names; a catch-all may not mix them with others.
        call = functools.partial(type(self).call, self)
        call.__signature__ = _signature(layers)  # type: ignore[attr-defined]
        object.__setattr__(self, "call", call)
        super().__init__(**kwargs)
        self.body = body
        self.normalization = normalization
        self.order = order
        self.projection = projection
        self.scale = scale if scale is None or isinstance(scale, str) else as_number("scale", scale)
        self.drop_path = as_rate("drop_path", drop_path)
        self.remat = as_flag("remat", remat)
        self.supports_masking = True
        self._drop = DropPath(self.drop_path, dtype=self.compute_dtype) if self.drop_path else None
        self._remember_extras({})
        leaves = [leaf for layer in layers for leaf in layer._flatten_layers()]
        self._without_input = {leaf.name for leaf in leaves if isinstance(leaf, keras.Sequential) and not leaf.built}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.built:
            extras = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
            self._remember_extras(keras.tree.map_structure(_as_symbol, extras))
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = tuple(input_shape)
        if any(isinstance(size, list | tuple | dict) for size in shape):
            raise ValueError(f"ResidualBlock takes one tensor; got {len(shape)}, of shapes {shape}.")
        axis = _channel_axis(self._body_layers)
        made = {"rms": RMSNorm, "layer": keras.layers.LayerNormalization, "batch": keras.layers.BatchNormalization}
        self._norm = self.normalization
        if isinstance(self.normalization, str):
            self._norm = made[self.normalization](axis=axis, dtype=self.dtype_policy, name="normalization")
        if self.order == "pre" and self._norm is not None and not self._norm.built:
            self._norm.build(shape)
        output_shape = self._body_shape(shape)
        if self.order == "post" and self._norm is not None and not self._norm.built:
            self._norm.build(output_shape)
        self._shortcut, strides = self._make_shortcut(shape, output_shape, axis)
        self._taken = _places(strides, axis % len(shape)) if any(stride != 1 for stride in strides) else None
        if self._shortcut is not None and self._shortcut is not self.projection:
            taken = self._taken or (slice(None),) * len(shape)
            sizes = (size and len(range(size)[places]) for size, places in zip(shape, taken, strict=True))
            self._shortcut.build(tuple(sizes))
            self._shortcut.supports_masking = True  # Keras would warn that it ends a mask, which is ours to do.
        if self._drop is not None:
            self._drop.build(output_shape)
        strided = (strides or getattr(self._shortcut, "strides", (1,)))[0] != 1
        self._keeps_length = len(shape) > 2 and len(output_shape) > 2 and shape[1] == output_shape[1] and not strided
        if self.scale == "rezero":
            self.trained_scale = self.add_weight(name="rezero", shape=(), initializer="zeros")
        elif self.scale == "layerscale":
            channel = axis % len(output_shape)
            ones = (1,) * (len(output_shape) - 1 - channel)
            initializer = keras.initializers.Constant(_LAYER_SCALE)
            shape = (output_shape[channel], *ones)
            self.trained_scale = self.add_weight(name="layerscale", shape=shape, initializer=initializer)

    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        mask: Any = None,
        inputs_mask: Any = None,  # what Keras calls the mask of the inputs where there are more tensors
        **kwargs: Any,
    ) -> Any:
        mask = inputs_mask if mask is None else mask
        inputs = cast_to(inputs, self.compute_dtype)
        if self.remat and training:
            # Computed anew, the layers are called by nobody who would tell them that they train.
            branch = rematerialized(
                self, lambda tensor: self._branch(tensor, mask, {"training": training, **kwargs}), inputs
            )
        else:
            branch = self._branch(inputs, mask, kwargs)
        if self._drop is not None:
            branch = self._drop(branch, training=training)
        if self.scale is not None:
            branch = branch * (self.trained_scale if isinstance(self.scale, str) else self.scale)
        shortcut = inputs if self._taken is None else inputs[self._taken]
        outputs = (shortcut if self._shortcut is None else self._shortcut(shortcut)) + branch
        if self.order == "post" and self._norm is not None:
            outputs = self._norm(outputs, **_accepted(self._norm, {"mask": self.compute_mask(inputs, mask)}))
        return cast_to(outputs, self.compute_dtype)

    def _branch(self, branch: Any, mask: Any, arguments: dict[str, Any]) -> Any:
        """Returns what the body makes of the inputs, which are normalized before with order `"pre"`."""
        if self.order == "pre" and self._norm is not None:
            training = {"training": arguments.get("training")}
            branch = self._norm(branch, **_accepted(self._norm, {"mask": mask, **training}))
        for layer in self._body_layers:
            before = branch
            given = _accepted(layer, {"mask": mask, **arguments})
            branch = layer(before, **_attention_to_itself(layer, before, mask, given))
            if mask is not None:
                mask = layer.compute_mask(before, mask) if layer.supports_masking else None
        return cast_to(branch, self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return previous_mask if self._keeps_length else None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self._body_shape(tuple(input_shape))

    def get_config(self) -> dict[str, Any]:
        layers = self._body_layers
        first = [next(number for number, other in enumerate(layers) if other is layer) for layer in layers]
        # A layer that is called again is written as the place of its first call.
        body = [
            self._without_input_layers(_serialized(layer)) if place == number else place
            for number, (layer, place) in enumerate(zip(layers, first, strict=True))
        ]
        return {
            **super().get_config(),
            "body": body if isinstance(self.body, list | tuple) else body[0],
            "normalization": _serialized(self.normalization),
            "order": self.order,
            "projection": _serialized(self.projection),
            "scale": self.scale,
            "drop_path": self.drop_path,
            "remat": self.remat,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ResidualBlock":
        config = copy.deepcopy(config)  # for some of Keras's wrappers take what they read out of it
        for name in ("normalization", "projection"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        several = isinstance(config["body"], list | tuple)
        layers: list[Any] = []
        for each in config["body"] if several else [config["body"]]:
            layers.append(layers[each] if isinstance(each, int) else keras.saving.deserialize_keras_object(each))
        config["body"] = layers if several else layers[0]
        return cls(**config)

    def get_build_config(self) -> dict[str, Any] | None:
        config: dict[str, Any] | None = super().get_build_config()
        extras = {
            name: value
            for name, value in self._extras.items()
            if any(isinstance(leaf, keras.KerasTensor) for leaf in keras.tree.flatten(value))
        }
        if config is not None and extras:
            # Symbols made anew: those here carry the history of a call, of which Keras wants a layer's name.
            config["extras"] = keras.saving.serialize_keras_object(keras.tree.map_structure(_as_symbol, extras))
        return config

    def build_from_config(self, config: dict[str, Any]) -> None:
        self._remember_extras(keras.saving.deserialize_keras_object(config.get("extras", {})))
        super().build_from_config({name: value for name, value in config.items() if name != "extras"})

    def _remember_extras(self, extras: dict[str, Any]) -> None:
        object.__setattr__(self, "_extras", extras)  # Keras would put lists and dicts into classes of its own.

    def _without_input_layers(self, config: Any) -> Any:
        """Takes out of the configuration the input layers that building has put into `keras.Sequential`s."""
        if isinstance(config, list):
            return [self._without_input_layers(each) for each in config]
        if not isinstance(config, dict):
            return config
        config = {name: self._without_input_layers(value) for name, value in config.items()}
        inner = config.get("config")
        if config.get("class_name") == "Sequential" and inner["name"] in self._without_input:
            inner["layers"] = [layer for layer in inner["layers"] if layer["class_name"] != "InputLayer"]
        return config

    @property
    def _body_layers(self) -> list[Any]:
        return list(self.body) if isinstance(self.body, list | tuple) else [self.body]

    def _body_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of what the body makes of a tensor of this shape, and builds its layers."""
        for layer in self._body_layers:
            if layer.built and _has_own_output_shape(layer):
                shape = tuple(layer.compute_output_shape(shape))
            else:
                # A model would keep the size of the batch with which it is built.
                batch = None if isinstance(layer, keras.Model) else shape[0]
                symbol = keras.KerasTensor((batch, *shape[1:]), self.compute_dtype)
                given = _attention_to_itself(layer, symbol, None, _accepted(layer, self._extras))
                shape = (shape[0], *layer(symbol, **given).shape[1:])
        return shape

    def _make_shortcut(
        self, shape: tuple[int | None, ...], wanted: tuple[int | None, ...], axis: int
    ) -> tuple[Any, tuple[int, ...]]:
        """Returns the layer that brings the input to the shape of the body's output, None for the identity.

        With it the strides of the places that it is given: none where it has its own, or all. The convolution has none,
        for PyTorch's oneDNN writes beyond its memory in the gradient of one with a window of 1, strides and fewer than
        8 channels, on CPUs without AVX-512.
        """
        if isinstance(self.projection, keras.layers.Layer):
            if not self.projection.built:
                self.projection.build(shape)
            got = tuple(self.projection.compute_output_shape(shape))
            if got[1:] != wanted[1:]:
                raise ValueError(f"The projection gives the shape {got}, but the body gives {wanted}.")
            return self.projection, ()
        told = f"the body turns the input shape {shape} into {wanted}"
        if len(shape) != len(wanted):
            raise ValueError(f"The body must keep the rank for its output to be added; {told}.")
        rank, channel = len(shape), axis % len(shape)
        strides = self._strides(shape, wanted, channel)
        if strides is None:
            raise ValueError(
                f"No projection is known for the shortcut: {told}, whose sizes are not those of a stride. "
                "Pad the body's layers ('same') or pass a layer as projection."
            )
        if shape[channel] == wanted[channel] and set(strides) <= {1}:
            return None, ()
        if self.projection is False:
            raise ValueError(f"With projection=False the body must keep the shape; {told}.")
        if wanted[channel] is None or shape[channel] is None:
            raise ValueError(f"The numbers of channels must be known for a projection; {told}.")
        common = {"use_bias": False, "dtype": self.dtype_policy, "name": "projection"}
        convolutions = {3: keras.layers.Conv1D, 4: keras.layers.Conv2D, 5: keras.layers.Conv3D}
        if rank in convolutions and (rank > 3 or set(strides) != {1} or axis == 1):
            data_format = "channels_first" if axis == 1 else "channels_last"
            return convolutions[rank](wanted[channel], 1, data_format=data_format, **common), strides
        if set(strides) <= {1} and channel == rank - 1:
            return keras.layers.Dense(wanted[-1], **common), ()
        raise ValueError(f"No projection is known for a shortcut of rank {rank}: {told}. Pass a layer as projection.")

    def _strides(
        self, shape: tuple[int | None, ...], wanted: tuple[int | None, ...], channel: int
    ) -> tuple[int, ...] | None:
        """Returns the stride along each axis but batch and channels, None if there is none.

        Sizes tell a stride apart if they are large, so the body is asked what it makes of a large input.
        """
        axes = [axis for axis in range(1, len(shape)) if axis != channel]
        if not axes:
            return ()
        sizes = [(shape[axis], wanted[axis]) for axis in axes]
        if all(size == reached and size is not None for size, reached in sizes):
            return (1,) * len(axes)
        probe = tuple(_PROBE if axis in axes else size for axis, size in enumerate(shape))
        try:
            reached = self._body_shape(probe)
        except Exception:  # whatever a layer raises that works for its own sizes only
            probed = None
        else:
            probed = [_stride(_PROBE, reached[axis]) for axis in axes]
        strides = []
        for number, (size, end) in enumerate(sizes):
            stride = None if probed is None else probed[number]
            if size is not None and end is not None:
                if probed is None:
                    stride = _stride(size, end)
                elif stride is not None and -(-size // stride) != end:
                    stride = None
            elif probed is None and size is None and end is None:
                stride = 1  # Nothing speaks against it, and the addition itself refuses different sizes.
            strides.append(stride)
        known = tuple(stride for stride in strides if stride is not None)
        return known if len(known) == len(axes) else None


def _places(strides: tuple[int, ...], channel: int) -> tuple[slice, ...]:
    """Returns what strides take of a tensor with batch and channels."""
    taken = [slice(None, None, stride) for stride in strides]
    taken.insert(channel - 1, slice(None))
    return (slice(None), *taken)


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if not isinstance(value, keras.layers.Layer) and not any(
        value is each or (isinstance(value, str) and value == each) for each in choices
    ):
        known = ", ".join(repr(each) for each in choices)
        raise ValueError(f"{name} must be one of {known}, or a layer; got {value!r}.")


def _signature(layers: list[Any]) -> inspect.Signature:
    """Returns the signature of a call: the input, then what any of the layers takes beside its own input."""
    first = [inspect.Parameter("inputs", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    names = ["training", "mask", "inputs_mask", *(name for layer in layers for name in _extra_arguments(layer))]
    kinds = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in dict.fromkeys(names)]
    return inspect.Signature([*first, *kinds])


def _extra_arguments(layer: Any) -> list[str]:
    parameters = list(inspect.signature(layer.call).parameters.values())[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in named]


def _accepted(layer: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns those of the arguments that the layer's `call` takes and that are given."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return {name: given[name] for name in _extra_arguments(layer) if name in given} if given else {}


def _attention_to_itself(layer: Any, tensor: Any, mask: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call, completed for a layer of attention that is given nothing to attend to."""
    attention = keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention
    if not isinstance(layer, attention) or "value" in arguments:
        return arguments
    masks = {} if mask is None else {"query_mask": mask, "value_mask": mask}
    return {"value": tensor, **masks, **arguments}


def _as_symbol(value: Any) -> Any:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return keras.KerasTensor(tuple(value.shape), keras.backend.standardize_dtype(value.dtype))
    return value


def _has_own_output_shape(layer: Any) -> bool:
    own = type(layer).compute_output_shape is not keras.layers.Layer.compute_output_shape
    return own and len(inspect.signature(layer.compute_output_shape).parameters) == 1


def _channel_axis(layers: list[Any]) -> int:
    """Returns 1 if the first layer that has a data format has the channels first, else -1."""
    for layer in layers:
        for leaf in layer._flatten_layers():
            if getattr(leaf, "data_format", None) is not None:
                return 1 if leaf.data_format == "channels_first" else -1
    return -1


def _stride(size: int, reached: int | None) -> int | None:
    """Returns the least s with ⌈size / s⌉ = reached, None if there is none."""
    if not reached or reached > size:
        return None
    stride = -(-size // reached)
    return stride if -(-size // stride) == reached else None


def _serialized(value: Any) -> Any:
    """Returns the configuration of a layer without what Keras adds to it when it has been built."""
    return (
        _without_build(keras.saving.serialize_keras_object(value)) if isinstance(value, keras.layers.Layer) else value
    )


def _without_build(config: Any) -> Any:
    if isinstance(config, dict):
        left_out = ("build_config", "build_input_shape")
        return {name: _without_build(value) for name, value in config.items() if name not in left_out}
    return [_without_build(value) for value in config] if isinstance(config, list) else config
