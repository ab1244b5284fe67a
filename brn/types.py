"""Types that the package's hints share."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the backend in use, or what it converts to one."""

Shape: TypeAlias = Sequence[int | None]
"""Sizes of the axes; `None` where one is not known yet."""

Config: TypeAlias = dict[str, Any]
"""A constructor's arguments, as Keras saves them."""

Initializer: TypeAlias = str | Config | Callable[..., Tensor]
Regularizer: TypeAlias = str | Config | Callable[[Tensor], Tensor] | None
Constraint: TypeAlias = str | Config | Callable[[Tensor], Tensor] | None
"""What `keras.initializers.get` and its like take."""
