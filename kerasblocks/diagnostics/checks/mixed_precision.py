"""Whether half precision is used where it can be."""

import keras

from kerasblocks.diagnostics._case import Case
from kerasblocks.diagnostics.finding import Finding, failed, not_applicable, passed, warned


def check(case: Case) -> Finding:
    """Fails for float16 without a loss scale, and for weights in half precision."""
    layers = [layer for layer in case.model._flatten_layers(include_self=False) if layer.weights]
    compute = {layer.compute_dtype for layer in layers}
    half = compute & {"float16", "bfloat16"}
    if not half:
        return not_applicable("The model computes in float32 or better.")
    weights = {keras.backend.standardize_dtype(variable.dtype) for variable in case.model.trainable_variables}
    scaled = isinstance(case.model.optimizer, keras.optimizers.LossScaleOptimizer)
    head = case.head
    figures = {"compute": sorted(compute), "weights": sorted(weights), "loss_scale": scaled}
    if weights & {"float16", "bfloat16"}:
        return failed(
            f"Weights are kept in {', '.join(sorted(weights))}: small updates are rounded away.",
            "Take the policy mixed_bfloat16 or mixed_float16, whose weights are float32.",
            **figures,
        )
    if "float16" in half and not scaled:
        return failed(
            "float16 without a loss scale: small gradients become 0.",
            "Wrap the optimizer in keras.optimizers.LossScaleOptimizer, or take mixed_bfloat16.",
            **figures,
        )
    of_output = case.inference.dtypes[0]
    if head is not None and of_output in ("float16", "bfloat16") and head.loss != "other":
        return warned(
            f"The output is in {of_output}, and so is the loss.",
            "Give the last layer dtype='float32'.",
            **figures,
        )
    return passed(f"Computes in {', '.join(sorted(compute))}, with weights in float32.", **figures)
