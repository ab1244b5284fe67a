"""What both layers share: arguments, weights, and Algorithm 1 of Ioffe 2017.

`MinibatchNormalization.call` is Algorithm 1; `brn.layers` says what each layer averages, and how it
corrects.
"""

import contextlib
import functools
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras

from brn import backend, kernels
from brn.arguments import (
    as_tensor,
    check_boolean,
    check_mask,
    check_names,
    check_number,
    check_shape,
    check_training,
    check_weights,
    feature_axis,
    initializer_of,
    positive_integer,
)
from brn.backend import ops
from brn.grouping import in_groups
from brn.probe import observe
from brn.types import Config, Constraint, Initializer, Regularizer, Shape, Tensor

_INITIALIZERS = (
    "beta_initializer",
    "gamma_initializer",
    "moving_mean_initializer",
    "moving_variance_initializer",
)
_PER_CHANNEL = (1, 1, -1, 1)
"""The shape of values per channel beside activations that are grouped for the kernels."""

State: TypeAlias = Sequence[Tensor]
"""What a step moves (`_moving`), as it is before the step, each read once.

In a graph, TensorFlow may move a second read behind the update: its optimizer drops the edge that
orders the two once another path seems to imply it, and later folds that path away. What is
normalized with and what is moved must be one read, so that the data themselves order it.
"""


@functools.cache
def _at_least_float32(*dtypes: str) -> str:
    dtypes = tuple(map(keras.backend.standardize_dtype, dtypes))
    if any(dtype.startswith("complex") for dtype in dtypes):
        raise ValueError(
            "Inputs must be real numbers: normalize real and imaginary parts as features of their "
            f"own. Received: dtype={dtypes[0]}"
        )
    # On JAX and PyTorch `result_type` would make float32 of float64.
    return "float64" if "float64" in dtypes else keras.backend.result_type(*dtypes, "float32")


def _mean_over_groups(values: Tensor, count: Tensor | None) -> Tensor:
    # Without the dimensions of size 1, over which XLA is slow to sum.
    if values.shape[0] == 1:
        return backend.reshape(values, (-1,))
    values = values[:, 0, :, 0]
    if count is None:
        return ops.sum(values, axis=0) / values.shape[0]
    count = count[:, 0, :, 0]
    share = count / ops.clip(ops.sum(count, axis=0, keepdims=True), 1.0, float("inf"))
    return ops.sum(share * values, axis=0)


def _warn_no_more(store: Any) -> None:
    """Keeps Keras, until it closes `store`, from warnings of what its error will say once.

    In every container of a model it tries again what could not be loaded, and warns of each.
    """
    if not hasattr(store, "close") or "close" in vars(store):
        return
    quiet, close = contextlib.ExitStack(), store.close
    quiet.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", "Skipping nested container")

    def close_store() -> None:
        quiet.close()
        close()

    store.close = close_store


class MinibatchNormalization(keras.layers.Layer):
    """What both layers share: arguments, gamma and beta, Algorithm 1, microbatches, masks, dtypes.

    A subclass holds the moving spread of its kind and defines `_moving` (the two averages, and what
    counts the steps), `_initial_spread`, `_sigma`, `_bounds`, `_renormalization` and `_update`.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        microbatch_size: int | None = None,
        beta_initializer: Initializer = "zeros",
        gamma_initializer: Initializer = "ones",
        moving_mean_initializer: Initializer = "zeros",
        moving_variance_initializer: Initializer = "ones",
        beta_regularizer: Regularizer = None,
        gamma_regularizer: Regularizer = None,
        beta_constraint: Constraint = None,
        gamma_constraint: Constraint = None,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        check_names(kwargs)
        check_boolean("trainable", kwargs.get("trainable", True))
        # Inputs are not cast to float16 on the way in: they may not fit. `call` casts the output.
        super().__init__(autocast=False, **kwargs)
        self._convert_input_args = False  # `__call__` does: Keras looks through every argument.
        self.axis = feature_axis(axis)
        self.momentum = check_number("momentum", momentum, lowest=0.0, highest=1.0)
        self.epsilon = check_number("epsilon", epsilon, lowest=0.0)
        self.center = check_boolean("center", center)
        self.scale = check_boolean("scale", scale)
        self.microbatch_size = positive_integer(
            "microbatch_size", microbatch_size, none="the whole batch"
        )
        self.beta_initializer = initializer_of("beta_initializer", beta_initializer)
        self.gamma_initializer = initializer_of("gamma_initializer", gamma_initializer)
        self.moving_mean_initializer = initializer_of(
            "moving_mean_initializer", moving_mean_initializer
        )
        self.moving_variance_initializer = initializer_of(
            "moving_variance_initializer", moving_variance_initializer, lowest=0.0
        )
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)
        self.synchronized = check_boolean("synchronized", synchronized)
        if self.synchronized and self.microbatch_size is not None:
            raise ValueError(
                "`synchronized=True` takes one statistic over the batches of all replicas, "
                "`microbatch_size` several within a batch: choose one of the two. "
                f"Received: synchronized={synchronized}, microbatch_size={microbatch_size}"
            )
        self.supports_masking = True
        if not keras.backend.is_float_dtype(self.compute_dtype):
            raise ValueError(
                "A layer that normalizes computes in floating point: leave `dtype` out, or choose "
                f"one such as 'float32' or 'mixed_float16'. Received: dtype={kwargs['dtype']!r}"
            )

    def build(self, input_shape: Shape) -> None:
        """Creates the weights for inputs of this shape; the size of the feature axis is needed."""
        input_shape = check_shape(input_shape)
        rank = len(input_shape)
        axis = feature_axis(self.axis, rank)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(
                "The size of the feature axis must be known to create the weights. "
                f"Received: axis={self.axis}, input_shape={input_shape}. "
                "Give that dimension of the Input a number, or choose another `axis`."
            )
        self._channel_axis = axis
        self._channel_shape = tuple(-1 if i == axis else 1 for i in range(rank))
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={axis: channels})
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                shape=(channels,),
                name="gamma",
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        if self.center:
            self.beta = self.add_weight(
                shape=(channels,),
                name="beta",
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )
        self.moving_mean = self._add_statistic(
            "moving_mean", channels, self.moving_mean_initializer
        )
        self._build_spread(channels)

    def _add_statistic(self, name: str, channels: int, initializer: Any) -> keras.Variable:
        # At least float32: an average that moves by a hundredth a step stands still in float16.
        return self.add_weight(
            shape=(channels,),
            name=name,
            dtype=_at_least_float32(self.variable_dtype),
            initializer=initializer,
            trainable=False,
            autocast=False,
            aggregation="mean",
        )

    def __call__(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Calls the layer, as any layer is called."""
        own = type(self).call is MinibatchNormalization.call
        if own and backend.is_plain_call(self, inputs, args, kwargs):
            return super(keras.Layer, self).__call__(inputs, **kwargs)
        if kwargs.get("mask") is not None:
            kwargs["mask"] = as_tensor("mask", kwargs["mask"])
        if args:
            check_training(args[0])
        return super().__call__(as_tensor("inputs", inputs), *args, **kwargs)

    def call(self, inputs: Tensor, training: bool = False, mask: Tensor | None = None) -> Tensor:
        """Normalizes `inputs`; see the class's docstring for the formulas."""
        dtype = self.compute_dtype
        x = ops.cast(inputs, _at_least_float32(inputs.dtype, dtype))
        check_training(training)
        mask = check_mask(mask, x)
        gamma, beta, *state = backend.read((self.gamma, self.beta, *self._moving))
        if not (training and self.trainable) or 0 in x.shape:
            mu, sigma = self._moving_statistics(state, x.dtype, self._channel_shape)
            gamma, beta = self._affine(gamma, beta, x.dtype, self._channel_shape)
            return ops.cast((x - mu) * (gamma / sigma) + beta, dtype)

        before = (
            *self._moving_statistics(state, x.dtype, _PER_CHANNEL),
            *self._bounds(state, x.dtype),
        )
        gamma, beta = self._affine(gamma, beta, x.dtype, _PER_CHANNEL)
        training_pass = backend.TrainingPass(self)

        def normalize(x: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
            kernel = kernels.select(x, valid, self.synchronized)
            mu_B, variance_B, count = kernel.moments(x)
            mu, sigma, *bounds = training_pass.recall((*mu_B, variance_B), before)
            sigma_B = ops.sqrt(variance_B + self.epsilon)
            if valid is not None:
                # A group in which all of a channel is masked has no statistics of its own.
                mu_B, sigma_B = mu_B.where(count > 0, mu), ops.where(count > 0, sigma_B, sigma)
            distance = mu_B - mu
            r, d = self._renormalization(distance, sigma_B, sigma, *bounds)
            y = kernel.normalize(x, mu_B, sigma_B, r, d, gamma, beta)
            return y, distance, sigma_B, variance_B, count

        y, *statistics = in_groups(normalize, x, self._channel_axis, self.microbatch_size, mask)
        if not training_pass.replayed:
            statistics = [None if s is None else ops.stop_gradient(s) for s in statistics]
            observe(self, before[1], *statistics)
            self._update(state, *statistics)
        return training_pass.finished(ops.cast(y, dtype))

    def _moving_statistics(self, state: State, dtype: str, shape: Shape) -> tuple[Tensor, Tensor]:
        mu = backend.reshape(ops.cast(state[0], dtype), shape)
        return mu, self._sigma(backend.reshape(ops.cast(state[1], dtype), shape))

    @staticmethod
    def _affine(gamma: Tensor | None, beta: Tensor | None, dtype: str, shape: Shape) -> Any:
        return (
            1.0 if gamma is None else backend.reshape(ops.cast(gamma, dtype), shape),
            0.0 if beta is None else backend.reshape(ops.cast(beta, dtype), shape),
        )

    def _move(
        self,
        state: State,
        mean_change: Tensor,
        spread_B: Tensor,
        count: Tensor | None,
        alpha: float | Tensor,
    ) -> None:
        """Moves both averages by `alpha` times the groups' mean distance from them.

        The mean is weighted by `count`; groups without it are of one size. Nothing counts of a
        group and channel whose statistics are not finite. Steps in which anything counts count.
        """
        spread = backend.reshape(ops.cast(state[1], spread_B.dtype), _PER_CHANNEL)
        changes, counted = [mean_change, spread_B - spread], None
        if count is not None or not backend.known_finite(*changes):
            counted = ops.cast(ops.isfinite(changes[0] + changes[1]), spread_B.dtype)
            counted = counted if count is None else counted * count
            changes = [ops.where(counted > 0, each, ops.zeros_like(each)) for each in changes]
        moves: list[Any] = [
            (ops.cast(_mean_over_groups(change, counted), old.dtype), alpha)
            for change, old in zip(changes, state[:2], strict=True)
        ]
        for _ in state[2:]:
            moves.append((1 if counted is None else ops.cast(ops.any(counted > 0), "int32"), 1))
        backend.move(self._moving, state, moves)

    def reset_statistics(self) -> None:
        """Sets both averages back to their starting values; `gamma` and `beta` stay.

        Raises:
            ValueError: if the layer is not built.
        """
        if not self.built:
            raise ValueError(
                "The layer has no statistics yet: build it, or call it once. "
                f"Received: {self.name!r}, built=False"
            )
        initializers = (self.moving_mean_initializer, self._initial_spread)
        for statistic, initial in zip(self._moving[:2], initializers, strict=True):
            statistic.assign(initial(statistic.shape, dtype=statistic.dtype))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Returns `input_shape`: the outputs have the shape of the inputs."""
        feature_axis(self.axis, len(check_shape(input_shape)))
        return input_shape

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the weights, in the order of `weights`.

        Raises:
            ValueError: if these cannot be the weights of this layer.
        """
        if self.built:
            check_weights(self, weights, self._moving[1])
        super().set_weights(weights)

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` stored.

        Raises:
            ValueError: if these are not the weights of a layer of this kind.
        """
        if self.built:
            try:
                check_weights(self, [store[key] for key in sorted(store.keys())], self._moving[1])
            except ValueError:
                _warn_no_more(store)
                raise
        super().load_own_variables(store)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        config = {
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "microbatch_size": self.microbatch_size,
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
            "synchronized": self.synchronized,
        }
        for name in _INITIALIZERS:
            config[name] = keras.initializers.serialize(getattr(self, name))
        return {**super().get_config(), **config}
