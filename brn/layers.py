"""Batch Normalization and Batch Renormalization as Keras layers, after Ioffe 2017.

`brn.minibatch.MinibatchNormalization.call` is Algorithm 1 of the paper; the two layers differ in
what they average (variance or standard deviation) and in the correction `r`, `d` they apply.
"""

import math
from typing import Any, Self

import keras

from brn import backend, schedules
from brn.arguments import bounds_of_keras, check_boolean, check_bounds
from brn.backend import ops
from brn.minibatch import MinibatchNormalization, State
from brn.types import Config, Shape, Tensor

_KERAS_RENORM = ("renorm", "renorm_clipping", "renorm_momentum")


@keras.saving.register_keras_serializable(package="brn")
class BatchNormalization(MinibatchNormalization):
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
            `(batch, time)`, or of all of them, with each size equal to the inputs' or 1. Zeros and
            ones will do; in a traced graph, where they cannot be looked at, not of a floating type.
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
    def _moving(self) -> tuple[keras.Variable, ...]:
        return self.moving_mean, self.moving_variance

    def _sigma(self, spread: Tensor) -> Tensor:
        return ops.sqrt(spread + self.epsilon)

    def _bounds(self, state: State, dtype: str) -> tuple[Tensor, ...]:
        return ()

    def _renormalization(
        self, distance: Tensor, sigma_B: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        # A group without statistics of its own already has mu and sigma, so this holds for it too.
        return 1.0, 0.0

    def _update(
        self,
        state: State,
        mean_change: Tensor,
        sigma_B: Tensor,
        variance_B: Tensor,
        count: Tensor | None,
    ) -> None:
        self._move(state, mean_change, variance_B, count, 1.0 - self.momentum)

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
class BatchRenormalization(MinibatchNormalization):
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
            `(batch, time)`, or of all of them, with each size equal to the inputs' or 1. Zeros and
            ones will do; in a traced graph, where they cannot be looked at, not of a floating type.
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
        dtype = dtype or "float32"
        if not self.built or not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "The bounds are floating numbers at the step of a layer that is built, or was "
                f"called once. Received: {self.name!r}, built={self.built}, dtype={dtype!r}"
            )
        return self._bounds_at(self.step.value, dtype)

    def _bounds_at(self, step: Tensor, dtype: str) -> tuple[Tensor, Tensor]:
        step = ops.cast(step, dtype)
        return self.r_max(step), self.d_max(step)

    @property
    def _moving(self) -> tuple[keras.Variable, ...]:
        return self.moving_mean, self.moving_stddev, self.step

    def _sigma(self, spread: Tensor) -> Tensor:
        return ops.clip(spread, self.epsilon**0.5, float("inf"))

    def _bounds(self, state: State, dtype: str) -> tuple[float | Tensor, ...]:
        step = backend.known_number(state[2])
        r_max, d_max = self.r_max.number(step), self.d_max.number(step)
        if r_max is None or d_max is None:
            return self._bounds_at(state[2], dtype)
        return r_max, d_max

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
        state: State,
        mean_change: Tensor,
        sigma_B: Tensor,
        variance_B: Tensor,
        count: Tensor | None,
    ) -> None:
        alpha = 1.0 - self.momentum
        if self.bias_correction:
            steps = ops.cast(state[2] + 1, sigma_B.dtype)
            # 1 - (1 - alpha)^steps; momentum 0 or 1 needs no correction, and has no logarithm.
            if 0.0 < self.momentum < 1.0:
                alpha = alpha / -ops.expm1(steps * math.log(self.momentum))
        self._move(state, mean_change, sigma_B, count, alpha)

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
        elif clipping is not None:
            raise ValueError(
                "`renorm_clipping` holds with renorm=True: set that, or pass `r_max` and `d_max`. "
                f"Received: renorm={renorm}, renorm_clipping={clipping}"
            )
        return cls(**config)
