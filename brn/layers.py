"""Batch Normalization and Batch Renormalization as Keras layers, after Ioffe 2017.

`_MinibatchNormalization.call` is Algorithm 1 of the paper; the two layers differ in what they
average (variance or standard deviation) and in the correction `r`, `d` they apply.
"""

import functools
import math
from typing import Any, Self, TypeAlias

import keras

from brn import backend, kernels, schedules
from brn.arguments import (
    bounds_of_keras,
    check_boolean,
    check_bounds,
    check_mask,
    check_names,
    check_number,
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
_KERAS_RENORM = ("renorm", "renorm_clipping", "renorm_momentum")
_PER_CHANNEL = (1, 1, -1, 1)
"""The shape of values per channel beside activations that are grouped for the kernels."""

_Averages: TypeAlias = tuple[Tensor, Tensor]
"""`moving_mean` and the moving spread as they are before the step, each read once.

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


class _MinibatchNormalization(keras.layers.Layer):
    """What both layers share: arguments, gamma and beta, Algorithm 1, microbatches, masks, dtypes.

    A subclass holds the moving spread of its kind and defines `_moving` (the two averages),
    `_initial_spread`, `_sigma`, `_bounds`, `_renormalization` and `_update`.
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
        # Inputs are not cast to float16 on the way in: they may not fit. `call` casts the output.
        kwargs["autocast"] = False
        check_names(kwargs)
        super().__init__(**kwargs)
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
        rank = len(input_shape)
        axis = feature_axis(self.axis, rank)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(
                "The size of the feature axis must be known to create the weights. "
                f"Received: axis={self.axis}, input_shape={tuple(input_shape)}. "
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

    def call(self, inputs: Tensor, training: bool = False, mask: Tensor | None = None) -> Tensor:
        """Normalizes `inputs`; see the class's docstring for the formulas."""
        x = ops.cast(inputs, _at_least_float32(inputs.dtype, self.compute_dtype))
        averages = self._averages()
        if not (training and self.trainable) or 0 in x.shape:
            mu, sigma = self._moving_statistics(averages, x.dtype, self._channel_shape)
            gamma, beta = self._affine(x.dtype, self._channel_shape)
            return ops.cast((x - mu) * (gamma / sigma) + beta, self.compute_dtype)

        before = (*self._moving_statistics(averages, x.dtype, _PER_CHANNEL), *self._bounds(x.dtype))
        gamma, beta = self._affine(x.dtype, _PER_CHANNEL)
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

        mask = check_mask(mask, x)
        y, *statistics = in_groups(normalize, x, self._channel_axis, self.microbatch_size, mask)
        if not training_pass.replayed:
            statistics = [None if s is None else ops.stop_gradient(s) for s in statistics]
            observe(self, before[1], *statistics)
            self._update(averages, *statistics)
        return training_pass.finished(ops.cast(y, self.compute_dtype))

    def _moving_statistics(
        self, averages: _Averages, dtype: str, shape: Shape
    ) -> tuple[Tensor, Tensor]:
        mu, spread = (backend.reshape(ops.cast(average, dtype), shape) for average in averages)
        return mu, self._sigma(spread)

    def _affine(self, dtype: str, shape: Shape) -> tuple[Tensor, Tensor]:
        gamma, beta = (
            default if weight is None else backend.reshape(ops.cast(weight.value, dtype), shape)
            for weight, default in ((self.gamma, 1.0), (self.beta, 0.0))
        )
        return gamma, beta

    def _averages(self) -> _Averages:
        mean, spread = map(backend.read, self._moving)
        return mean, spread

    def _move(
        self,
        averages: _Averages,
        mean_change: Tensor,
        spread_B: Tensor,
        count: Tensor | None,
        alpha: float | Tensor,
    ) -> int | Tensor:
        """Moves both averages by `alpha` times the groups' mean distance from them.

        The mean is weighted by `count`; groups without it are of one size. Nothing counts of a
        group and channel whose statistics are not finite. Returns 1 if anything counted, else 0.
        """
        spread = backend.reshape(ops.cast(averages[1], spread_B.dtype), _PER_CHANNEL)
        changes, counted = [mean_change, spread_B - spread], None
        if count is not None or not backend.known_finite(*changes):
            counted = ops.cast(ops.isfinite(changes[0] + changes[1]), spread_B.dtype)
            counted = counted if count is None else counted * count
            changes = [ops.where(counted > 0, each, ops.zeros_like(each)) for each in changes]
        for statistic, old, change in zip(self._moving, averages, changes, strict=True):
            change = ops.cast(_mean_over_groups(change, counted), old.dtype)
            backend.move(statistic, change, alpha, old)
        return 1 if counted is None else ops.cast(ops.any(counted > 0), "int32")

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
        for statistic, initial in zip(self._moving, initializers, strict=True):
            statistic.assign(initial(statistic.shape, dtype=statistic.dtype))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Returns `input_shape`: the outputs have the shape of the inputs."""
        feature_axis(self.axis, len(input_shape))
        return input_shape

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` stored.

        Raises:
            ValueError: if these are not the weights of a layer of this kind.
        """
        if self.built and len(store.keys()) != len(self.weights):
            raise ValueError(
                f"The stored weights are not those of {self.name!r}, a brn {type(self).__name__}: "
                f"{', '.join(weight.name for weight in self.weights)}. Weights that were saved "
                "before the model was converted fit the model as it was: load them into that one, "
                f"then call brn.convert. Received: {len(store.keys())} weights for this layer"
            )
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


@keras.saving.register_keras_serializable(package="brn")
class BatchNormalization(_MinibatchNormalization):
    """Batch normalization (Ioffe & Szegedy 2015), as in Keras, over microbatches if asked.

    For each channel and each set B of m activations, `alpha = 1 - momentum`:

    ```
    mu_B = mean(x)      sigma_B = sqrt(variance_B + epsilon)      variance_B = mean((x - mu_B)^2)
    training:   y = gamma * (x - mu_B) / sigma_B + beta
                moving_mean     += alpha * (mu_B - moving_mean)
                moving_variance += alpha * (variance_B - moving_variance)
    inference:  y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta
    ```

    Outputs, gradients and state equal those of `keras.layers.BatchNormalization`, and the weights,
    `gamma`, `beta`, `moving_mean`, `moving_variance`, each of shape `(channels,)`, go from one to
    the other by `set_weights` or a weights file.

    A set whose mean or variance is not finite does not enter the averages of that channel: after a
    minibatch with an infinity or a NaN in it, they are what they were before.

    Args:
        axis: the feature axis, which keeps its own statistics; not 0, which counts examples.
        momentum: what multiplies the *old* average, in [0, 1]. PyTorch's `momentum` is
            `1 - momentum`.
        epsilon: added to the variance, at least 0.
        center: whether to add `beta`.
        scale: whether to multiply by `gamma`.
        microbatch_size: examples per group, in the batch's order, each group normalized with its
            own statistics; the averages move once a step, by the mean over the groups. A last,
            smaller group is normalized by itself and counts by its size. `None`: the whole batch.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer:
            starting values.
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: as in Keras.
        synchronized: whether statistics span the batches of all replicas that train in parallel
            (`tf.distribute`, `torch.distributed`, `jax.shard_map`, `jax.pmap`; under
            `keras.distribution` on JAX they always do).
        **kwargs: `name`, `dtype`, `trainable`, as for any layer.

    Call arguments:
        inputs: `(batch, ..., channels, ...)`, two dimensions or more, any numeric type. Arithmetic
            is done in float32 at least, also when `inputs` are float16, and in float64 if they or
            the layer's `dtype` are.
        training: whether to normalize with the minibatch's statistics and move the averages. A
            layer with `trainable=False` never does.
        mask: boolean, `True` where an element counts: of the leading dimensions, such as
            `(batch, time)`, or of all of them, with each size equal to the inputs' or 1.
            What is masked is left out of the statistics and normalized like the rest; a batch that
            is masked entirely leaves every weight as it was.

    Raises:
        ValueError: if an argument is out of its range, the feature axis is not one of the inputs',
            or the mask does not fit the inputs; in training under gradient checkpointing on
            TensorFlow, or with `use_reentrant=True` on PyTorch.
    """

    def _build_spread(self, channels: int) -> None:
        self.moving_variance = self._add_statistic(
            "moving_variance", channels, self._initial_spread
        )

    def _initial_spread(self, shape: Shape, dtype: str) -> Tensor:
        return self.moving_variance_initializer(shape, dtype=dtype)

    @property
    def _moving(self) -> tuple[keras.Variable, keras.Variable]:
        return self.moving_mean, self.moving_variance

    def _sigma(self, spread: Tensor) -> Tensor:
        return ops.sqrt(spread + self.epsilon)

    def _bounds(self, dtype: str) -> tuple[Tensor, ...]:
        return ()

    def _renormalization(
        self, distance: Tensor, sigma_B: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        # A group without statistics of its own already has mu and sigma, so this holds for it too.
        return 1.0, 0.0

    def _update(
        self,
        averages: _Averages,
        mean_change: Tensor,
        sigma_B: Tensor,
        variance_B: Tensor,
        count: Tensor | None,
    ) -> None:
        self._move(averages, mean_change, variance_B, count, 1.0 - self.momentum)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the layer from its own configuration or `keras.layers.BatchNormalization`'s."""
        if config.get("renorm") is not None and check_boolean("renorm", config["renorm"]):
            raise ValueError(
                "A Keras layer with `renorm=True` renormalizes: build a "
                "`brn.BatchRenormalization` from its configuration. Received: renorm=True"
            )
        return cls(**{key: value for key, value in config.items() if key not in _KERAS_RENORM})


@keras.saving.register_keras_serializable(package="brn")
class BatchRenormalization(_MinibatchNormalization):
    """Batch Renormalization (Ioffe 2017, Algorithm 1), with scheduled bounds.

    For each channel and each set B of m activations, with the averages mu (`moving_mean`) and
    sigma (`moving_stddev`) from before the step, `alpha = 1 - momentum`:

    ```
    mu_B = mean(x)      sigma_B = sqrt(epsilon + mean((x - mu_B)^2))
    r = stop_gradient(clip(sigma_B / sigma, 1 / r_max, r_max))
    d = stop_gradient(clip((mu_B - mu) / sigma, -d_max, d_max))
    training:   y = gamma * ((x - mu_B) / sigma_B * r + d) + beta
                mu += alpha * (mu_B - mu)      sigma += alpha * (sigma_B - sigma)
    inference:  y = gamma * (x - mu) / sigma + beta
    ```

    With `r_max = 1`, `d_max = 0` this is batch normalization; where nothing is clipped, training
    and inference compute the same outputs, so an example's output no longer depends on the rest of
    its minibatch. Gradients flow through `mu_B` and `sigma_B`, not through `r` and `d` (section 3).
    Epsilon is inside `sigma_B`, hence in `sigma`, and nowhere else. A `moving_stddev` smaller than
    any `sigma_B` can be, such as a starting value of 0, is taken for `sqrt(epsilon)`.

    A set whose statistics are not finite does not enter the averages of that channel, and a step in
    which nothing enters is not counted: after a minibatch of NaN all is as it was before.

    Weights: `gamma`, `beta`, `moving_mean`, `moving_stddev`, each `(channels,)`, and `step`, an
    integer: the training steps that moved the averages.

    Args:
        axis: the feature axis, which keeps its own statistics; not 0, which counts examples.
        momentum: what multiplies the *old* average, in [0, 1]; the paper's alpha is
            `1 - momentum`, 0.01 there and by default.
        epsilon: added to the variance, at least 0.
        center: whether to add `beta`.
        scale: whether to multiply by `gamma`.
        r_max: bound of `r`, at least 1: a number (`float("inf")` does not clip), a
            `brn.schedules.ClipSchedule` of `step`, or `"paper"`, the schedule of the paper's run of
            130,000 steps. `brn.paper_clipping(total_steps)` scales it to a run of your length; a
            run that is over before its first 4 % of that schedule was plain batch normalization.
        d_max: bound of `d`, at least 0; likewise.
        microbatch_size: examples per group, in the batch's order, each group with its own `mu_B`,
            `sigma_B`, `r` and `d`; the averages move once a step, by the mean over the groups. A
            last, smaller group is normalized by itself and counts by its size. `None`: the whole
            batch.
        bias_correction: whether the averages are those of the minibatches seen so far, not of the
            starting values: alpha at step t is `alpha / (1 - (1 - alpha)^(t + 1))`, which is 1 at
            the first step. For short runs; the paper does without.
        beta_initializer, gamma_initializer, moving_mean_initializer: starting values.
        moving_variance_initializer: `moving_stddev` starts at its square root. (The argument is
            Keras's, so that any batch normalization's configuration carries over.)
        beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint: as in Keras.
        synchronized: whether statistics span the batches of all replicas that train in parallel
            (`tf.distribute`, `torch.distributed`, `jax.shard_map`, `jax.pmap`; under
            `keras.distribution` on JAX they always do).
        **kwargs: `name`, `dtype`, `trainable`, as for any layer.

    Call arguments:
        inputs: `(batch, ..., channels, ...)`, two dimensions or more, any numeric type. Arithmetic
            is done in float32 at least, also when `inputs` are float16, and in float64 if they or
            the layer's `dtype` are.
        training: whether to normalize with the minibatch's statistics and move the averages. A
            layer with `trainable=False` never does.
        mask: boolean, `True` where an element counts: of the leading dimensions, such as
            `(batch, time)`, or of all of them, with each size equal to the inputs' or 1.
            What is masked is left out of the statistics and normalized like the rest; a batch that
            is masked entirely leaves every weight as it was, `step` too.

    Raises:
        ValueError: if an argument is out of its range, the feature axis is not one of the inputs',
            or the mask does not fit the inputs; in training under gradient checkpointing on
            TensorFlow, or with `use_reentrant=True` on PyTorch.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        r_max: schedules.Bound = "paper",
        d_max: schedules.Bound = "paper",
        microbatch_size: int | None = None,
        bias_correction: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            axis=axis,
            momentum=momentum,
            epsilon=epsilon,
            center=center,
            scale=scale,
            microbatch_size=microbatch_size,
            **kwargs,
        )
        paper = dict(zip(("r_max", "d_max"), schedules.paper_clipping(), strict=True))
        self.r_max = check_bounds("r_max", r_max, lowest=1.0, paper=paper["r_max"])
        self.d_max = check_bounds("d_max", d_max, lowest=0.0, paper=paper["d_max"])
        self.bias_correction = check_boolean("bias_correction", bias_correction)

    def _build_spread(self, channels: int) -> None:
        self.moving_stddev = self._add_statistic("moving_stddev", channels, self._initial_spread)
        self.step = self.add_weight(
            shape=(),
            name="step",
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def _initial_spread(self, shape: Shape, dtype: str) -> Tensor:
        return ops.sqrt(self.moving_variance_initializer(shape, dtype=dtype))

    def reset_statistics(self) -> None:
        """Sets both averages back to their starting values and `step` to 0.

        The bounds are where their schedules begin; `gamma` and `beta` stay.

        Raises:
            ValueError: if the layer is not built.
        """
        super().reset_statistics()
        self.step.assign(0)

    def clipping_bounds(self, dtype: str | None = None) -> tuple[Tensor, Tensor]:
        """Returns `(r_max, d_max)` at the current `step`: two scalars, float32 by default."""
        step = ops.cast(self.step.value, dtype or "float32")
        return self.r_max(step), self.d_max(step)

    @property
    def _moving(self) -> tuple[keras.Variable, keras.Variable]:
        return self.moving_mean, self.moving_stddev

    def _sigma(self, spread: Tensor) -> Tensor:
        return ops.clip(spread, self.epsilon**0.5, float("inf"))

    def _bounds(self, dtype: str) -> tuple[float | Tensor, ...]:
        step = backend.known_number(self.step.value)
        numbers = [bound.number(step) for bound in (self.r_max, self.d_max)]
        return self.clipping_bounds(dtype) if None in numbers else tuple(numbers)

    def _renormalization(
        self,
        distance: Tensor,
        sigma_B: Tensor,
        sigma: Tensor,
        r_max: float | Tensor,
        d_max: float | Tensor,
    ) -> tuple[Tensor, Tensor]:
        if isinstance(r_max, float) and r_max == 1.0 and d_max == 0.0:
            return 1.0, 0.0
        r = ops.stop_gradient(ops.clip(sigma_B / sigma, 1 / r_max, r_max))
        d = ops.stop_gradient(ops.clip(distance / sigma, -d_max, d_max))
        return r, d

    def _update(
        self,
        averages: _Averages,
        mean_change: Tensor,
        sigma_B: Tensor,
        variance_B: Tensor,
        count: Tensor | None,
    ) -> None:
        alpha = 1.0 - self.momentum
        if self.bias_correction:
            steps = ops.cast(self.step.value + 1, sigma_B.dtype)
            # 1 - (1 - alpha)^steps; momentum 0 or 1 needs no correction, and has no logarithm.
            if 0.0 < self.momentum < 1.0:
                alpha = alpha / -ops.expm1(steps * math.log(self.momentum))
        moved = self._move(averages, mean_change, sigma_B, count, alpha)
        backend.move(self.step, moved)

    def get_config(self) -> Config:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "r_max": schedules.serialize(self.r_max),
            "d_max": schedules.serialize(self.d_max),
            "bias_correction": self.bias_correction,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Builds the layer from its own configuration or `keras.layers.BatchNormalization`'s.

        Of a Keras layer with `renorm=True`, `renorm_clipping` becomes the bounds (none: no
        clipping) and `renorm_momentum` the momentum; its `rmin` must be `1 / rmax`.
        """
        config = dict(config)
        renorm, clipping, momentum = (config.pop(key, None) for key in _KERAS_RENORM)
        if renorm is not None and check_boolean("renorm", renorm):
            config["r_max"], config["d_max"] = bounds_of_keras(clipping)
            config["momentum"] = momentum
        return cls(**config)
