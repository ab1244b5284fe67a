"""What settings of protocols and arms can be: their types, their ranges, their names.

The built-in grid is right as it is written; this is for what users write: files and `--set`.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from experiments.data.augmentation import PADDINGS
from experiments.grid.protocols import MINIBATCH, Protocol

NETWORKS = ("inception_small", "deep", "chain", "inception_v3")
OPTIMIZERS = ("rmsprop", "adam")
_Limit = tuple[Callable[[Any], bool], str]


def _from(lowest):
    return lambda value: value >= lowest, f"at least {lowest}"


def _one_of(names):
    return lambda value: value in names, f"one of {', '.join(names)}"


_POSITIVE = (lambda value: 0 < value < math.inf, "above 0")
_NOT_BELOW_0 = (lambda value: 0 <= value < math.inf, "at least 0")
_BELOW_1 = (lambda value: 0 <= value < 1, "from 0 to below 1")
_UP_TO_1 = (lambda value: 0 < value <= 1, "above 0, up to 1")

LIMITS: dict[str, _Limit] = {
    "classes": _from(2),
    "training_images": _from(MINIBATCH),
    "network": _one_of(NETWORKS),
    "width": _from(0),
    "modules": _from(0),
    "stem_stride": _from(1),
    "image_size": _from(1),
    "steps": _from(1),
    "workers": _from(1),
    "labels_per_minibatch": _from(1),
    "images_per_label": _from(1),
    "test_labels_per_minibatch": _from(1),
    "test_images_per_label": _from(0),
    "learning_rate": _POSITIVE,
    "learning_rate_decay": _UP_TO_1,
    "optimizer": _one_of(OPTIMIZERS),
    "rms_rho": _BELOW_1,
    "rms_momentum": _BELOW_1,
    "rms_epsilon": _POSITIVE,
    "alpha": _UP_TO_1,
    "epsilon": _POSITIVE,
    "averaging": _BELOW_1,
    "evaluate_every": _from(1),
    "evaluation_images": _from(1),
    "shift": _from(0),
    "padding": _one_of(tuple(PADDINGS)),
    "noise": _NOT_BELOW_0,
    "warp": _NOT_BELOW_0,
    "depth": _from(0),
    "deep_width": _from(0),
}
"""Setting -> what it can be, as a function and in words."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a sentence with the names that are most like a wrong one, or with all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Nearest: {', '.join(close)}." if close else f"There are: {', '.join(known)}."


def checked(name: str, value: Any, where: str) -> Any:
    """Returns the value of a protocol's setting in the setting's own type.

    Args:
        name: of the setting.
        value: as it was written.
        where: it was written; errors begin with it.

    Raises:
        ValueError: if there is no such setting, or it cannot have this value.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Protocol)}
    settable = [known for known in kinds if known not in ("name", "studies")]
    if name not in settable:
        raise ValueError(
            f"{where}: expected a setting. Received: {name}={value!r}. {nearest(name, settable)}"
        )
    if name == "notes":
        return tuple(strings(name, value, where))
    value = of_kind(name, value, kinds[name], where)
    fits, words = LIMITS.get(name, (lambda value: True, ""))
    if value is not None and not fits(value):
        near = f" {nearest(value, words[7:].split(', '))}" if isinstance(value, str) else ""
        raise ValueError(f"{where}: expected {name} {words}. Received: {name}={value!r}.{near}")
    return value


def of_kind(name: str, value: Any, kind: Any, where: str) -> Any:
    """Returns a value in a type; whole numbers are floats, too, but `true` is no number."""
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        expected = " or ".join(words[k] for k in kinds if k in words)
        raise ValueError(f"{where}: expected {name} to be {expected}. Received: {name}={value!r}.")
    return value


def strings(name: str, value: Any, where: str) -> list[str]:
    """Returns a list of texts."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(
            f"{where}: expected {name} to be a list of texts. Received: {name}={value!r}."
        )
    return value


def check_together(protocol: Protocol, where: str) -> None:
    """Raises a `ValueError` if settings that are right by themselves do not fit together."""
    made = protocol.labels_per_minibatch * protocol.images_per_label
    if made != MINIBATCH:
        raise ValueError(
            f"{where}: expected labels_per_minibatch x images_per_label to be {MINIBATCH}. "
            f"Received: {protocol.labels_per_minibatch} x {protocol.images_per_label} = {made}."
        )
    deep = ("width", "depth", "deep_width")
    needed = {"inception_small": ("width",), "deep": deep, "chain": deep}
    for name in needed.get(protocol.network, ()):
        if not getattr(protocol, name):
            raise ValueError(
                f"{where}: expected {name} of at least 1 in a network {protocol.network!r}. "
                f"Received: {name}=0."
            )
