"""What is asked of every step before its update may stand, and what the host learns of one that may not."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

CHECKS = ("loss", "gradients", "weights")
_MAX_SKIPPED_IN_A_ROW = 64  # by the loss scale

Read = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class StepGuard:
    """Which numbers of a step must be finite, and what becomes of a step in which one is not.

    Attributes:
        check: which of `CHECKS` are looked at.
        skip_update: whether such a step leaves the model, its optimizer and its metrics as they were.
        patience: how many such steps there may be before the fit stops.
        min_loss_scale: the fit stops where the optimizer's loss scale falls below it.
        unchecked: ids of the variables that may be infinite, for they were so when the fit began.
    """

    check: tuple[str, ...]
    skip_update: bool
    patience: int
    min_loss_scale: float
    unchecked: frozenset[int]

    def start(self) -> dict[str, Any]:
        """Returns what goes from step to step, at its start."""
        return {"bad_steps": np.int32(0), "overflows": np.int32(0), "stopped": np.False_}

    def judge(
        self, finite: Any, scaled_norms: Any, scales: tuple[Any, Any] | None, carried: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any], "Verdict"]:
        """Returns what the host is told of the step, what goes on to the next, and the verdict.

        Args:
            finite: whether all is that must be, a boolean tensor, or a bool where the host knows.
            scaled_norms: where there are `scales` and gradients are looked at: their norms, which may be infinite in a
                step that the optimizer has skipped.
            scales: the loss scale before and after the step, None where the optimizer changes none.
            carried: what came from the step before.
        """
        ops = keras.ops
        if finite is True and scales is None:  # spares a host that computes itself a dozen small operations
            stopped = carried["stopped"]
            return {"bad": ops.zeros(()), "stopped": stopped}, {}, Verdict(stopped, stopped)
        bad = ops.logical_not(finite)
        told: dict[str, Any] = {}
        new, stopped = {"overflows": carried["overflows"]}, carried["stopped"]
        if scales is not None:
            overflow = scales[1] < scales[0]  # The optimizer itself has left out the update.
            if scaled_norms is not None:
                bad = bad | (~ops.all(ops.isfinite(scaled_norms)) & ~overflow)
            new["overflows"] = (carried["overflows"] + 1) * ops.cast(overflow, "int32")
            stopped = stopped | (scales[1] < self.min_loss_scale) | (new["overflows"] >= _MAX_SKIPPED_IN_A_ROW)
            told |= {"overflow": overflow, "loss_scale": scales[1]}
        new["bad_steps"] = carried["bad_steps"] + ops.cast(bad, "int32")
        new["stopped"] = stopped | (new["bad_steps"] > self.patience)
        return told | {"bad": bad, "stopped": new["stopped"]}, new, Verdict(bad | new["stopped"], new["stopped"])


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to become of a step, as boolean tensors.

    Attributes:
        undone: whether all is put back as it was before the step, but for the seeds.
        stopped: whether the seeds are put back too, for the fit stops here or has stopped before.
    """

    undone: Any
    stopped: Any


def not_finite(variables: Sequence[Any]) -> list[Any]:
    """Returns those variables that hold a number that is not finite; waits for the device."""
    return [variable for variable in variables if is_floating(variable) and not all_finite(variable.value)]


def is_floating(variable: Any) -> bool:
    """Returns whether the variable has numbers that may be infinite."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(variable.dtype)) and 0 not in variable.shape


def moving_averages(model: Any) -> list[Any]:
    """Returns the floating variables that layers set themselves while they are called, as BatchNormalization does."""
    found = [each for layer in model._flatten_layers() for each in layer._non_trainable_variables if is_floating(each)]
    return list({id(each): each for each in found if id(each) not in constants_of(model)}.values())


def constants_of(model: Any) -> set[int]:
    """Returns the identities of those of a model's variables that no training changes, such as a teacher's."""
    return set(map(id, getattr(model, "constant_variables", ())))


def all_finite(tensor: Any) -> bool:
    """Returns whether no number of the tensor is NaN or infinite; waits for the device."""
    return bool(keras.ops.all(keras.ops.isfinite(tensor)))
