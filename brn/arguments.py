"""Checks of the layers' arguments; every message says what was expected, what came, what to do."""

import math
import numbers
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from brn import schedules
from brn.types import Config, Shape, Tensor

_ELSEWHERE = {
    **dict.fromkeys(("eps", "variance_epsilon"), "it is `epsilon`"),
    **dict.fromkeys(
        ("num_features", "features", "size"), "the number of features is known from the inputs"
    ),
    "affine": "`scale` and `center` say whether there are gamma and beta",
    **dict.fromkeys(
        ("track_running_stats", "use_running_average"),
        "the call says what to normalize with, training=True or False",
    ),
    **dict.fromkeys(("rmax", "max_r", "max_r_max", "r_d_max"), "it is `r_max`"),
    **dict.fromkeys(("dmax", "max_d", "max_d_max"), "it is `d_max`"),
    **dict.fromkeys(
        ("warmup_steps", "r_d_max_inc_step"), "`r_max` and `d_max` take a brn.schedules.Ramp"
    ),
    "decay": "it is `momentum`, which multiplies the old average",
    "virtual_batch_size": "it is `microbatch_size`, of groups that are contiguous",
    "renorm": "the class says it, brn.BatchRenormalization or brn.BatchNormalization",
    "renorm_clipping": "its rmax and dmax are `r_max` and `d_max` of brn.BatchRenormalization",
    "renorm_momentum": "it is `momentum` of brn.BatchRenormalization",
    "fused": "the fastest kernel that is exact is chosen",
    "autocast": "inputs keep their precision, and the outputs have that of `dtype`",
}
"""Arguments of other implementations, and what they are here."""

# Where a schedule is probed: from the first step to far past the end of any run.
_PROBED_STEPS = (0, *(10**power for power in range(10)))
_CHANNELS = 64
_LARGEST = float(np.finfo("float32").max)


def check_number(name: str, value: Any, lowest: float, highest: float = math.inf) -> float:
    """Returns `value` as a float in [lowest, highest], finite in float32."""
    if not _is_real(value) or not lowest <= value <= min(highest, _LARGEST):
        expected = (
            f"at least {lowest:g} and finite in float32"
            if highest == math.inf
            else f"in [{lowest:g}, {highest:g}]"
        )
        raise ValueError(f"`{name}` must be a number {expected}. Received: {name}={value!r}")
    return float(value)


def check_boolean(name: str, value: Any) -> bool:
    """Returns `value`, `True` or `False`; nothing else is taken for one of them."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False. Received: {name}={value!r}")
    return bool(value)


def initializer_of(name: str, value: Any, lowest: float = -math.inf) -> Any:
    """Returns the initializer that `value` stands for, tried to give `lowest` at least."""
    try:
        initializer = keras.initializers.get(value)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{name}` must be an initializer, such as 'zeros' or "
            f"keras.initializers.Constant(0.5). Received: {name}={value!r}"
        ) from error
    if initializer is None:
        raise ValueError(f"`{name}` must be an initializer, such as 'ones'. Received: {name}=None")
    # One that draws numbers starts at none of them that is not finite; a variance may be negative.
    if lowest == -math.inf and not isinstance(initializer, keras.initializers.Constant):
        return initializer
    if isinstance(initializer, keras.initializers.Ones | keras.initializers.Zeros):
        return initializer
    if isinstance(initializer, keras.initializers.Constant):
        values = np.asarray(initializer.value, "float64")
    else:
        trial = initializer
        if isinstance(initializer, keras.initializers.Initializer):
            # It is not to draw any numbers here.
            trial = type(initializer).from_config(initializer.get_config())
        values = ops.convert_to_numpy(trial((_CHANNELS,), dtype="float32"))
    smallest = values.min()
    if not smallest >= lowest or not np.isfinite(values).all():
        limit = (
            "finite numbers" if lowest == -math.inf else f"finite numbers of at least {lowest:g}"
        )
        raise ValueError(
            f"`{name}` must give {limit}. Received: {name}={value!r}, which gives {smallest:g}"
        )
    return initializer


def check_names(arguments: Config) -> None:
    """Raises a `ValueError` for an argument of another implementation, with what it is here."""
    for name, value in arguments.items():
        if name in _ELSEWHERE:
            raise ValueError(
                f"There is no argument `{name}` here: {_ELSEWHERE[name]}. See docs/migration.md. "
                f"Received: {name}={value!r}"
            )


def bounds_of_keras(clipping: Any) -> tuple[float, float]:
    """Returns `r_max` and `d_max` of Keras's `renorm_clipping`; without one nothing is clipped."""
    clipping = {} if clipping is None else clipping
    known = isinstance(clipping, Mapping) and set(clipping) <= {"rmin", "rmax", "dmax"}
    if not known or not all(value is None or _is_real(value) for value in clipping.values()):
        raise ValueError(
            "`renorm_clipping` must be a dictionary of numbers with 'rmax', 'rmin' and 'dmax'. "
            f"Received: renorm_clipping={clipping}"
        )
    rmin, rmax, dmax = (clipping.get(name) for name in ("rmin", "rmax", "dmax"))
    if (rmin or rmax) and not (rmin and rmax and abs(rmin * rmax - 1.0) < 1e-6):
        raise ValueError(
            "Algorithm 1 clips r to [1 / r_max, r_max], so `renorm_clipping` carries over "
            "with rmin = 1 / rmax only. Change one of them, or pass `r_max` yourself. "
            f"Received: renorm_clipping={clipping}"
        )
    return math.inf if rmax is None else rmax, math.inf if dmax is None else dmax


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


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
            f"[{1 - rank}, -1] for inputs of rank {rank}. It is the first argument, not the number "
            f"of features, which is known from the inputs. Received: axis={received!r}"
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
        bound = _scalar(name, schedule, step)
        if not bound >= lowest:
            when = "" if isinstance(schedule, schedules.Constant) else f", {bound:g} at step {step}"
            raise ValueError(
                f"`{name}` must be at least {lowest:g}. {remedy} Received: {name}={value!r}{when}"
            )
    return schedule


def _scalar(name: str, schedule: schedules.ClipSchedule, step: int) -> float:
    bound = schedule(step)
    try:
        array = ops.convert_to_numpy(bound)
        is_scalar = array.shape == () and array.dtype.kind in "fiuV"  # V: bfloat16
    except Exception:
        is_scalar = False
    if not is_scalar:
        raise ValueError(
            f"`{name}` must be one number at every step: let the schedule's `__call__` return a "
            f"floating scalar, such as 1.0 + brn.schedules.as_float(step). Received: {name}="
            f"{schedule!r}, {bound!r} at step {step}"
        )
    return float(array)


def check_shape(shape: Any) -> Shape:
    """Returns the shape of the inputs as a tuple of sizes, `None` where one is not known."""
    try:
        sizes = tuple(shape)
        known = not isinstance(shape, str | Mapping)
        known = known and all(size is None or _is_size(size) for size in sizes)
    except TypeError:
        known = False
    if not known:
        raise ValueError(
            "The shape of the inputs must be a tuple of sizes, such as (None, 32, 32, 3), None "
            f"where one is not known. Received: input_shape={shape!r}"
        )
    return sizes


def _is_size(size: Any) -> bool:
    return hasattr(size, "__index__") and not isinstance(size, bool) and not size < 0


def as_tensor(name: str, value: Any) -> Any:
    """Returns an array as a tensor, and a tensor as it is.

    Raises:
        ValueError: for what is neither, and for a numpy array of what are no numbers, such as
            objects or dates: backends make numbers of some.
    """
    if ops.is_tensor(value) or isinstance(value, keras.KerasTensor):
        return value
    if not hasattr(value, "__array__"):
        raise ValueError(
            f"`{name}` must be an array or a tensor, one: np.asarray({name}) makes one of nested "
            f"lists. Received: {name}={reprlib.repr(value)}, a {type(value).__name__}"
        )
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufcV":  # V: bfloat16
        raise ValueError(
            f"`{name}` must be an array of numbers: make it one, such as by "
            f"{name}.astype('float32'). Received: {name}.dtype={value.dtype}"
        )
    return ops.convert_to_tensor(value)


def check_training(training: Any) -> None:
    """Raises a `ValueError` unless `training` is `True`, `False`, or a scalar that is one."""
    if training is True or training is False or training is None:
        return
    if hasattr(training, "shape"):
        known = tuple(training.shape) == () and (
            keras.backend.standardize_dtype(training.dtype) == "bool"
        )
        try:
            bool(known and training)
        except Exception as error:  # While it is traced; Keras cannot repeat what JAX says of it.
            raise ValueError(
                "`training` must be known while a function is traced: pass Python's True or False, "
                "or make it a static argument, as by jax.jit(..., static_argnames='training'). "
                f"Received: training={training!r}"
            ) from error
    else:
        known = isinstance(training, numbers.Integral) and training in (0, 1)
    if not known:
        raise ValueError(
            "`training` must be True or False; a mask is passed by its name, mask=... "
            f"Received: training={training!r}"
        )


def check_mask(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """Returns `mask` as booleans of `x`'s rank, or `None`."""
    if mask is None:
        return None
    sizes, shape = tuple(mask.shape), tuple(x.shape)
    if not 0 < len(sizes) <= len(shape) or not _agree(sizes, shape[: len(sizes)]):
        raise ValueError(
            "`mask` must have the shape of the inputs' leading dimensions, such as (batch, time), "
            "or of all of them, with each size equal to the inputs' or 1; insert axes of size 1 "
            f"where it says nothing. Received: mask.shape={sizes}, inputs.shape={shape}"
        )
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        _check_zeros_and_ones(mask)
        mask = ops.cast(mask, "bool")
    return ops.reshape(mask, (*ops.shape(mask), *(1,) * (len(shape) - len(sizes))))


def _check_zeros_and_ones(mask: Tensor) -> None:
    try:
        values = ops.convert_to_numpy(mask)
        received = "values " + ", ".join(map(str, np.unique(values)[:3]))
        known = values.dtype.kind != "c" and np.isin(values, (0, 1)).all()
    except Exception:  # While it is traced, a mask has no values, and each backend says so its way.
        # Whole numbers are most likely zeros and ones; others may be weights, as they are in Keras.
        known = keras.backend.is_int_dtype(mask.dtype)
        received = "values that are not known while it is traced"
    if not known:
        raise ValueError(
            "`mask` must be boolean, or all of zeros and ones: elements are in or out, and have no "
            "weights. Compare, such as mask > 0.5. Received: mask.dtype="
            f"{keras.backend.standardize_dtype(mask.dtype)}, {received}"
        )


def check_weights(layer: keras.Layer, values: Sequence[Any], of_spread: keras.Variable) -> None:
    """Raises a `ValueError` unless these can be the layer's weights.

    Args:
        layer: a built layer of this package.
        values: what to set its weights to.
        of_spread: the one of its weights that is a moving variance or deviation.
    """
    if len(values) != len(layer.weights):
        raise ValueError(
            f"The weights are not those of {layer.name!r}, a brn {type(layer).__name__}: "
            f"{', '.join(weight.name for weight in layer.weights)}. Weights that were saved or "
            "taken before the model was converted fit the model as it was: load them into that "
            f"one, then call brn.convert. Received: {len(values)} weights for this layer"
        )
    for weight, value in zip(layer.weights, values, strict=True):
        array = ops.convert_to_numpy(value)
        wrong = ""
        if array.shape != tuple(weight.shape):
            wrong = f"have the shape {tuple(weight.shape)}"
        elif array.dtype.kind not in "biufV":  # V: bfloat16
            wrong = "be real numbers"
        elif weight is of_spread or weight.dtype == "int32":
            wrong = "not be negative" if (array < 0).any() else ""
        if weight.dtype == "int32" and not wrong and array % 1 != 0:
            wrong = "count steps"
        if wrong:
            raise ValueError(
                f"{weight.name} of {layer.name!r} must {wrong}; weights are "
                f"{', '.join(weight.name for weight in layer.weights)}, in this order. "
                f"Received: {weight.name}={array}"
            )


def _agree(sizes: Shape, expected: Shape) -> bool:
    return all(
        size is None or other is None or size in (1, other)
        for size, other in zip(sizes, expected, strict=True)
    )
