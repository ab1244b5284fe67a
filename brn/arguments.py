"""Checks of the layers' arguments; every message says what was expected, what came, what to do."""

import math
import numbers
from typing import Any

import keras
from keras import ops

from brn import schedules
from brn.types import Shape, Tensor

# Where a schedule is probed: from the first step to far past the end of any run.
_PROBED_STEPS = (0, *(10**power for power in range(10)))


def check_number(name: str, value: Any, lowest: float, highest: float = math.inf) -> float:
    """Returns `value` as a float in [lowest, highest], finite."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not lowest <= value <= highest or math.isinf(value):
        expected = (
            f"at least {lowest:g} and finite"
            if highest == math.inf
            else f"in [{lowest:g}, {highest:g}]"
        )
        raise ValueError(f"`{name}` must be a number {expected}. Received: {name}={value!r}")
    return float(value)


def check_model(model: Any, kind: type = keras.Layer) -> None:
    """Raises a `ValueError` unless `model` is of this kind: `keras.Layer` or `keras.Model`."""
    if not isinstance(model, kind):
        raise ValueError(
            f"`model` must be a Keras {'model' if kind is keras.Model else 'model or layer'}: "
            "keras.saving.load_model reads a model from a file, keras.Sequential([layer]) makes "
            f"one of a layer. Received: model={model!r}"
        )


def positive_integer(name: str, value: Any, none: str = "") -> Any:
    """Returns `value`, a positive integer, or `None` where that stands for what `none` says."""
    if value is None and none:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        alternative = f", or None for {none}" if none else ""
        raise ValueError(
            f"`{name}` must be a positive integer{alternative}. Received: {name}={value!r}"
        )
    return int(value)


def feature_axis(axis: Any, rank: int | None = None) -> int:
    """Returns the feature axis as an integer; counted from the front once `rank` is known.

    tf_keras writes the axis as a list of one: that is accepted too.
    """
    received = axis
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        axis = axis[0]
    if isinstance(axis, bool) or not isinstance(axis, numbers.Integral):
        raise ValueError(
            "`axis` must be one integer, the axis of the features (-1 for channels last, 1 for "
            f"channels first). Received: axis={received!r}"
        )
    axis = int(axis)
    if rank is None:
        if axis == 0:
            raise ValueError(
                "`axis` 0 counts the examples; statistics are taken over it. Choose the axis of "
                "the features, such as -1. Received: axis=0"
            )
        return axis
    if rank < 2:
        raise ValueError(
            "The inputs need two dimensions at least, (batch, features), for `axis` to be one of "
            f"them but the first: add one, such as x[:, None]. Received: axis={received!r}, inputs "
            f"of rank {rank}"
        )
    if not -rank < axis < rank:
        raise ValueError(
            f"`axis` must be one of the inputs' axes but the first: in [1, {rank - 1}] or "
            f"[{1 - rank}, -1] for inputs of rank {rank}. Received: axis={received!r}"
        )
    return axis % rank


def check_bounds(
    name: str, value: Any, lowest: float, paper: schedules.ClipSchedule
) -> schedules.ClipSchedule:
    """Returns the schedule that `value` stands for, probed to be at least `lowest` at all times."""
    if isinstance(value, str) and value == "paper":
        return paper
    remedy = (
        f"Pass a number of at least {lowest:g} (float('inf') does not clip), a ClipSchedule such "
        "as brn.schedules.Ramp, or 'paper'."
    )
    try:
        schedule = schedules.get(value)
    except (ValueError, TypeError) as error:
        if isinstance(value, dict) and "class_name" in value:
            remedy = (
                f"Keras cannot make it a {value['class_name']}: register the class with "
                "keras.saving.register_keras_serializable before loading, or pass custom_objects "
                f"to keras.saving.load_model. ({error})"
            )
        raise ValueError(f"`{name}` is not a bound. {remedy} Received: {name}={value!r}") from error
    for step in _PROBED_STEPS:
        bound = float(ops.convert_to_numpy(schedule(step)))
        if not bound >= lowest:
            when = "" if isinstance(schedule, schedules.Constant) else f", {bound:g} at step {step}"
            raise ValueError(
                f"`{name}` must be at least {lowest:g}. {remedy} Received: {name}={value!r}{when}"
            )
    return schedule


def check_mask(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """Returns `mask` as booleans of `x`'s rank, or `None`."""
    if mask is None:
        return None
    mask = ops.cast(mask, "bool")
    rank, shape = len(x.shape), tuple(x.shape)
    if len(mask.shape) < rank:
        expected = shape[: len(mask.shape)]
        missing = (1,) * (rank - len(mask.shape))
        fits = _agree(mask.shape, expected)
        if fits:
            mask = ops.reshape(mask, (*ops.shape(mask), *missing))
    else:
        fits = len(mask.shape) == rank and _agree(mask.shape, shape, broadcast=True)
    if not fits:
        raise ValueError(
            "`mask` must have the shape of the inputs' leading dimensions, such as (batch, time), "
            "or the inputs' rank with each size equal to the inputs' or 1; insert axes of size 1 "
            f"where it says nothing. Received: mask.shape={tuple(mask.shape)}, "
            f"inputs.shape={shape}"
        )
    return mask


def _agree(sizes: Shape, expected: Shape, broadcast: bool = False) -> bool:
    return all(
        size is None or other is None or size == other or (broadcast and size == 1)
        for size, other in zip(sizes, expected, strict=True)
    )
