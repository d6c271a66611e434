"""The gated feed-forward layer of today's transformers, which keeps fewer activations; Keras has none."""

from typing import Any

import keras

from kerasblocks._arguments import as_flag, as_integer, as_number, as_rate
from kerasblocks.layers._joined_weights import (
    JoinedConstraint,
    JoinedInitializer,
    JoinedRegularizer,
    separate,
    serialized,
)
from kerasblocks.ops._floating import as_floating, cast_to
from kerasblocks.ops._gated_projection import gated_projection
from kerasblocks.ops.swiglu import swiglu


@keras.saving.register_keras_serializable(package="kerasblocks")
class SwiGLU(keras.layers.Layer):
    """Computes (swish_β(x·W) ⊙ x·V)·W₂, with swish_β(a) = a · σ(βa), on the last axis. Masks pass through.

    W and V, the gate and up projections, lie side by side in one matrix, gate first, and are multiplied at once;
    each half is initialized, regularized and constrained as a matrix of its own. Of what
    follows, most is computed anew in the backward pass and not kept (unless `dropout` is at work, or the
    layer is quantized).

    Args:
        hidden_dim: hidden dimension; None for 2/3 · 4 · width of the input, rounded up to `multiple_of`.
        output_dim: last dimension of the output; None for the width of the input.
        multiple_of: what the default hidden dimension is a multiple of.
        use_bias: whether the three projections have biases.
        beta: β of the swish.
        dropout: rate of dropout before the down projection W₂, 0 ≤ dropout < 1.
        kernel_initializer: initializer of the three matrices. An integer seed in it is that of W; V and W₂ take
            the two numbers that follow, for equal matrices would stay equal.
        output_initializer: initializer of W₂; None for `kernel_initializer`.
        bias_initializer: initializer of the biases.
        kernel_regularizer: regularizer of the three matrices.
        bias_regularizer: regularizer of the biases.
        kernel_constraint: constraint of the three matrices.
        lora_rank: rank with which low-rank adaptation is enabled when the layer is built; see `enable_lora`.
        lora_alpha: α of the adaptation, whose update is multiplied by α / rank; None for the rank.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor of shape `(batch, ..., width)`.
        training: whether to drop.

    Returns:
        A tensor of shape `(batch, ..., output_dim)` in the compute dtype.

    Raises:
        ValueError: a dimension or rank below 1, a `beta` that is not a finite number, a `dropout` outside its
            range, a flag that is no bool, a `lora_alpha` without `lora_rank`, inputs of rank below 2 or of unknown
            width.

    Source: Shazeer, "GLU variants improve Transformer", 2020, equation 6.

    Example:

    >>> import keras
    >>> from kerasblocks.layers import SwiGLU
    >>> layer = SwiGLU()
    >>> layer(keras.ops.ones((2, 5, 12))).shape == (2, 5, 12), layer.gate_up.units // 2, layer.count_params()
    (True, 32, 1152)
    """

    def __init__(
        self,
        hidden_dim: int | None = None,
        output_dim: int | None = None,
        *,
        multiple_of: int = 8,
        use_bias: bool = False,
        beta: float = 1.0,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_normal",
        output_initializer: Any = None,
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = None if hidden_dim is None else as_integer("hidden_dim", hidden_dim, least=1)
        self.output_dim = None if output_dim is None else as_integer("output_dim", output_dim, least=1)
        self.multiple_of = as_integer("multiple_of", multiple_of, least=1)
        self.use_bias = as_flag("use_bias", use_bias)
        self.beta = as_number("beta", beta)
        self.dropout = as_rate("dropout", dropout)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.lora_rank = None if lora_rank is None else as_integer("lora_rank", lora_rank, least=1)
        if lora_alpha is not None and lora_rank is None:
            raise ValueError(f"lora_alpha needs a lora_rank; got lora_alpha={lora_alpha!r} without one.")
        self.lora_alpha = self.lora_rank if lora_alpha is None else as_number("lora_alpha", lora_alpha)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2)
        self._quantization_config: Any = None
        self._dropout_layer = keras.layers.Dropout(self.dropout, dtype=self.compute_dtype) if self.dropout else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        if width is None:
            raise ValueError(f"The last dimension of the input must be known; got input shape {tuple(input_shape)}.")
        hidden = self._hidden_dim(width)
        first, second, third = separate(self.kernel_initializer, 3)
        columns = (hidden, hidden)
        constraint, regularizer = self.kernel_constraint, self.kernel_regularizer
        self.gate_up = self._dense(
            2 * hidden,
            "gate_up",
            kernel_initializer=JoinedInitializer((first, second), columns),
            kernel_regularizer=None if regularizer is None else JoinedRegularizer(regularizer, columns),
            kernel_constraint=None if constraint is None else JoinedConstraint(constraint, columns),
        )
        self.down = self._dense(
            width if self.output_dim is None else self.output_dim,
            "down",
            kernel_initializer=third if self.output_initializer is None else self.output_initializer,
            kernel_regularizer=regularizer,
            kernel_constraint=constraint,
        )
        self.gate_up.build(input_shape)
        self.down.build((*input_shape[:-1], hidden))
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: width})
        if self.lora_rank is not None:
            self.enable_lora(self.lora_rank, self.lora_alpha)

    def call(self, inputs: Any, training: bool = False) -> Any:
        ops = keras.ops
        gate_up = self.gate_up(cast_to(as_floating(inputs), self.compute_dtype))
        if self.down.quantization_mode is not None or (training and self._dropout_layer is not None):
            gate, up = ops.split(gate_up, 2, axis=-1)
            hidden = swiglu(gate, up, beta=self.beta)
            if self._dropout_layer is not None:
                hidden = self._dropout_layer(hidden, training=training)
            return self.down(hidden)
        outputs = gated_projection(gate_up, ops.cast(self.down.kernel, gate_up.dtype), self.beta)
        return outputs if self.down.bias is None else outputs + ops.cast(self.down.bias, outputs.dtype)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freezes the matrices and adds to each a trained product of two small ones, (α / rank) · A·B.

        Gate and up share A. Biases and the layers around this one stay trained as they were; a model that is compiled
        has to be compiled anew. As with `keras.layers.Dense`, saving merges the product into the matrices.

        Args:
            rank: number of columns of A.
            lora_alpha: α; None for `rank`.
            a_initializer: initializer of A.
            b_initializer: initializer of B.

        Raises:
            ValueError: a rank below 1; a layer that has not been built, has a kernel constraint, or is adapted
                already.

        Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, section 4.1.
        """
        rank = as_integer("rank", rank, least=1)
        alpha = rank if lora_alpha is None else as_number("lora_alpha", lora_alpha)
        if not hasattr(self, "gate_up"):
            raise ValueError("Cannot enable LoRA on a layer that is not built yet; call it or its build() first.")
        if self.kernel_constraint is not None:
            raise ValueError("LoRA does not go with a kernel_constraint; got one.")
        if self.gate_up.lora_enabled:
            raise ValueError("LoRA is enabled already; it can be enabled once.")
        self._tracker.unlock()
        for projection in (self.gate_up, self.down):
            projection.enable_lora(rank, lora_alpha=alpha, a_initializer=a_initializer, b_initializer=b_initializer)
        self._tracker.lock()
        self.lora_rank, self.lora_alpha = rank, alpha

    def quantize(self, mode: str | None = None, type_check: bool = True, config: Any = None) -> None:
        """Quantizes the projections as `keras.layers.Dense.quantize` does.

        Args:
            mode: `"int8"`, or another mode of `Dense` that needs no calibration.
            type_check: as for `Dense`.
            config: Keras's quantization config; None for the mode's default.

        Raises:
            ValueError: neither a mode nor a config, or one that `Dense` has not.
            NotImplementedError: a subclass, unless `type_check` is False.
        """
        if type_check and type(self) is not SwiGLU:
            raise NotImplementedError(f"{type(self).__name__} is a subclass of SwiGLU and has no quantize().")
        for projection in (self.gate_up, self.down):
            projection.quantize(mode, config=config)
        self._is_quantized = True
        self.dtype_policy = self.gate_up.dtype_policy

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], input_shape[-1] if self.output_dim is None else self.output_dim)

    def get_config(self) -> dict[str, Any]:
        config = {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "output_dim": self.output_dim,
            "multiple_of": self.multiple_of,
            "use_bias": self.use_bias,
            "beta": self.beta,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": serialized(self.output_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
        }
        if self.lora_rank is not None:
            config.update(lora_rank=self.lora_rank, lora_alpha=self.lora_alpha)
        quantized = self._quantized_projection()
        if quantized is not None:
            config["dtype"] = keras.dtype_policies.serialize(quantized.dtype_policy)
            config["quantization_config"] = keras.saving.serialize_keras_object(quantized.quantization_config)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SwiGLU":
        config = dict(config)
        quantization = config.pop("quantization_config", None)
        layer: SwiGLU = super().from_config(config)
        layer._quantization_config = keras.saving.deserialize_keras_object(quantization)
        return layer

    def _hidden_dim(self, width: int) -> int:
        if self.hidden_dim is not None:
            return self.hidden_dim
        return -(-8 * width // (3 * self.multiple_of)) * self.multiple_of

    def _dense(self, units: int, name: str, **kwargs: Any) -> Any:
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            bias_initializer=self.bias_initializer,
            bias_regularizer=self.bias_regularizer,
            quantization_config=self._quantization_config,
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )

    def _quantized_projection(self) -> Any:
        """Returns a quantized projection, or None; `Model.quantize` quantizes them past this layer."""
        if not hasattr(self, "gate_up"):
            return None
        modes = {self.gate_up.quantization_mode, self.down.quantization_mode}
        if len(modes) > 1:
            raise ValueError(
                f"Both projections of {self.name!r} or none must be quantized for the layer to be saved; "
                f"got the modes {self.gate_up.quantization_mode!r} and {self.down.quantization_mode!r}."
            )
        return None if modes == {None} else self.gate_up
