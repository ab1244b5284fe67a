"""Two normalization layers that only the study of test-time statistics needs.

`AveragesAsConstants` is what one would train with if the averages were used in training and nobody
thought of the gradient. `GroupStatistics` normalizes groups of any size by a change of one number,
so that a network is compiled once for all sizes of a test minibatch.
"""

import keras
from keras import ops

import brn


class AveragesAsConstants(brn.BatchRenormalization):
    """Normalizes with the moving averages in training too; to the gradient they are constants.

    ```
    y = gamma * (x - mu) / sigma + beta      dx = dy * gamma / sigma
    ```

    The output is that of `BatchRenormalization` without bounds, in training and in inference, and
    so are the averages. The gradient is not: there it flows through `mu_B` and `sigma_B` too.
    While `r_max` is 1 this is batch normalization, so that both can start from the same averages.
    """

    def call(self, inputs, training=False, mask=None):
        """Normalizes `inputs`, and moves the averages in training."""
        constant = super().call(inputs, training=False, mask=mask)
        if not (training and self.trainable):
            return constant
        r_max, _ = self.clipping_bounds()  # before the step moves on
        renormalized = super().call(inputs, training=True, mask=mask)
        return ops.where(r_max > 1, constant, renormalized)

    def _averages(self):
        # Copies: PyTorch wants them for the gradient as they were before they moved.
        return tuple(each + 0.0 for each in super()._averages())


class GroupStatistics(keras.layers.Layer):
    """Normalizes every `group_size` images of a call with their own mean and variance.

    ```
    y = (x - mean(x)) / sqrt(variance(x) + epsilon) + beta
    ```

    This is `brn.BatchNormalization(scale=False, microbatch_size=...)` in training, but that the
    size of a group is a weight, and that there are no averages. A last, smaller group counts alone.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon

    def build(self, input_shape):
        """Creates `beta` and `group_size`."""
        self.beta = self.add_weight(shape=(input_shape[-1],), name="beta", initializer="zeros")
        self.group_size = self.add_weight(
            shape=(), name="group_size", dtype="int32", initializer="ones", trainable=False
        )

    def call(self, inputs):
        """Normalizes images, `(batch, height, width, channels)`."""
        group = ops.arange(ops.shape(inputs)[0]) // ops.convert_to_tensor(self.group_size)
        together = ops.cast(group[:, None] == group[None, :], inputs.dtype)
        weights = together / ops.sum(together, axis=1, keepdims=True)

        def mean(x):
            means = ops.matmul(weights, ops.mean(x, axis=(1, 2)))
            return ops.reshape(means, (-1, 1, 1, inputs.shape[-1]))

        centered = inputs - mean(inputs)
        return centered / ops.sqrt(mean(ops.square(centered)) + self.epsilon) + self.beta
