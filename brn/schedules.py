"""Schedules of the clipping bounds `r_max` and `d_max`: pure functions of the training step.

The paper (Ioffe 2017, section 3 and 4.1) starts as batch normalization, `r_max = 1` and
`d_max = 0`, and relaxes both bounds once training has settled. A schedule maps the layer's own
step count to the bound in force, inside the compiled training step, and is saved with the layer.
"""

import math
import numbers
from typing import Any, Literal, Self, TypeAlias

import keras
from keras import ops

from brn import backend
from brn.types import Config, Tensor


class ClipSchedule:
    """Base class of a bound that depends on the training step.

    Subclasses implement `__call__` with `keras.ops`, so that it can be traced, and `get_config`;
    decorated with `keras.saving.register_keras_serializable`, they are saved with the layer:

    ```python
    import keras
    from keras import ops
    from brn.schedules import ClipSchedule, as_float

    @keras.saving.register_keras_serializable(package="my_project")
    class SquareRoot(ClipSchedule):
        def __call__(self, step):
            return 1.0 + ops.sqrt(as_float(step)) / 100.0
    ```
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls) and "number" not in vars(cls):
            cls.number = ClipSchedule.number  # type: ignore[method-assign]  # not a base's bound

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the bound at a training step.

        Args:
            step: the number of training steps the layer has taken before this one; a Python
                number or a scalar tensor, of integer or floating type.

        Returns:
            A scalar floating tensor.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(step).")

    def number(self, step: int | None) -> float | None:
        """Returns the bound as a number of Python, by which PyTorch clips faster, or `None`.

        Args:
            step: as above, or `None` where it is not known.
        """
        return None

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the schedule that `get_config` describes."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(repr(self))


Bound: TypeAlias = float | ClipSchedule | Literal["paper"]
"""What the layers take for `r_max` and `d_max`."""


def as_float(step: Tensor) -> Tensor:
    """Returns `step` as a floating tensor: unless it is one, of `floatx`, float32 at least.

    Steps beyond 65,504 do not fit into float16.
    """
    step = ops.convert_to_tensor(step)
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(step.dtype)):
        return step
    return ops.cast(step, keras.backend.result_type(keras.config.floatx(), "float32"))


@keras.saving.register_keras_serializable(package="brn")
class Constant(ClipSchedule):
    """The same bound at every step; what a plain number stands for.

    Args:
        value: the bound. `float("inf")` does not clip at all.

    Raises:
        ValueError: if `value` is not a number, or NaN.
    """

    def __init__(self, value: float) -> None:
        self.value = _number("value", value)

    def __call__(self, step: Tensor) -> Tensor:
        """Returns `value`."""
        return backend.ops.full_like(as_float(step), self.value)

    def number(self, step: int | None) -> float | None:
        """Returns `value`, at any step."""
        return self.value

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {"value": self.value}


@keras.saving.register_keras_serializable(package="brn")
class Ramp(ClipSchedule):
    """Holds `start`, then goes to `end` in a straight line, then holds `end`.

    ```
    bound(step) = start + (end - start) * clip((step - begin) / (finish - begin), 0, 1)
    ```

    With `begin == finish` it jumps: `start` before that step, `end` from that step on.

    Args:
        start: the bound up to and including step `begin`.
        end: the bound from step `finish` on.
        begin: the step after which the bound starts to move, at least 0.
        finish: the step at which it arrives, at least `begin`.

    Raises:
        ValueError: if an argument is not a finite number, `begin < 0` or `finish < begin`.
    """

    def __init__(self, start: float, end: float, begin: float, finish: float) -> None:
        self.start = _number("start", start, finite=True)
        self.end = _number("end", end, finite=True)
        self.begin = _number("begin", begin, finite=True)
        self.finish = _number("finish", finish, finite=True)
        if self.begin < 0:
            raise ValueError(
                "`begin` is a training step, counted from 0, and cannot be negative. "
                f"Received: begin={begin}"
            )
        if self.finish < self.begin:
            raise ValueError(
                "`finish` must not come before `begin`: swap the two. "
                f"Received: begin={begin}, finish={finish}"
            )

    def __call__(self, step: Tensor) -> Tensor:
        """Returns the bound at `step`."""
        step = as_float(step)
        if self.begin == self.finish:
            done = backend.ops.cast(step >= self.finish, step.dtype)
        else:
            done = backend.ops.clip((step - self.begin) / (self.finish - self.begin), 0.0, 1.0)
        return self.start + (self.end - self.start) * done

    def number(self, step: int | None) -> float | None:
        """Returns the bound at `step`, if that is known."""
        if step is None:
            return None
        if self.begin < step < self.finish:
            done = (step - self.begin) / (self.finish - self.begin)
            return self.start + (self.end - self.start) * done
        return self.end if step >= self.finish else self.start

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            "start": self.start,
            "end": self.end,
            "begin": self.begin,
            "finish": self.finish,
        }


def paper_clipping(total_steps: float = 130_000) -> tuple[Ramp, Ramp]:
    """Returns the paper's pair of schedules `(r_max, d_max)`, scaled to a run of `total_steps`.

    In the paper's run of 130,000 steps `r_max = 1` and `d_max = 0` (batch normalization) for the
    first 5,000; then `r_max` goes to 3 at step 40,000 and `d_max` to 5 at step 25,000 (Ioffe 2017,
    section 4.1). The paper says "gradually"; a straight line is this package's choice.

    Args:
        total_steps: the length of the run in training steps, greater than 0.

    Returns:
        `(r_max, d_max)`, two `Ramp`s:
        `Ramp(1, 3, 5/130 * total_steps, 40/130 * total_steps)` and
        `Ramp(0, 5, 5/130 * total_steps, 25/130 * total_steps)`.

    Raises:
        ValueError: if `total_steps` is not a positive number.
    """
    if _number("total_steps", total_steps, finite=True) <= 0:
        raise ValueError(
            "`total_steps` is the length of the training run in steps and must be positive. "
            f"Received: total_steps={total_steps}"
        )
    thousand = total_steps / 130
    return (
        Ramp(1.0, 3.0, begin=5 * thousand, finish=40 * thousand),
        Ramp(0.0, 5.0, begin=5 * thousand, finish=25 * thousand),
    )


def get(identifier: float | ClipSchedule | Config) -> ClipSchedule:
    """Returns the schedule for a number, a `ClipSchedule` or a serialized one.

    Raises:
        ValueError: for anything else.
    """
    schedule: Any = identifier
    if isinstance(identifier, dict):
        schedule = keras.saving.deserialize_keras_object(identifier)
    return schedule if isinstance(schedule, ClipSchedule) else Constant(schedule)


def serialize(schedule: ClipSchedule) -> float | Config:
    """Returns what `get` turns back into `schedule`: a number for a `Constant`, else a dict."""
    if isinstance(schedule, Constant):
        return schedule.value
    return keras.saving.serialize_keras_object(schedule)


def _number(name: str, value: Any, finite: bool = False) -> float:
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    if math.isnan(number) or (finite and math.isinf(number)):
        raise ValueError(
            f"`{name}` must be a {'finite ' if finite else ''}number. Received: {name}={value!r}"
        )
    return number
