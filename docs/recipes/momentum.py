"""Which momentum means what, next to PyTorch.

The paper's alpha is how far an average moves in a step. PyTorch calls that `momentum`; Keras, and
this package, call `momentum` what multiplies the *old* average:

| | average | value of the paper |
|---|---|---|
| the paper | `mu += alpha * (mu_B - mu)` | `alpha = 0.01` |
| this package, Keras, TensorFlow | `mu = momentum * mu + (1 - momentum) * mu_B` | `momentum=0.99` |
| PyTorch | `mu = (1 - momentum) * mu + momentum * mu_B` | `momentum=0.01` |

Two more differences: PyTorch's `eps` is 1e-5 where Keras's is 1e-3, and PyTorch averages the
variance with n - 1 in the denominator, but normalizes with n. This needs PyTorch, whichever backend
Keras runs on.
"""

import numpy as np
import torch
from keras.ops import convert_to_numpy

import brn

alpha, n = 0.1, 8
ours = brn.BatchNormalization(momentum=1 - alpha, epsilon=1e-5)
theirs = torch.nn.BatchNorm1d(3, momentum=alpha, eps=1e-5)
unbiased = np.ones(3)

rng = np.random.default_rng(0)
for _ in range(20):
    x = rng.normal(2.0, 3.0, (n, 3)).astype("float32")
    y, expected = ours(x, training=True), theirs(torch.tensor(x))
    y, expected = convert_to_numpy(y), expected.detach().numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    unbiased += alpha * (x.var(axis=0, ddof=1) - unbiased)

mean, variance = map(convert_to_numpy, (ours.moving_mean, ours.moving_variance))
print("moving mean, ours:    ", mean)
print("moving mean, PyTorch: ", theirs.running_mean.numpy())
print("moving variance, ours:", variance)
print("with n - 1, PyTorch's:", theirs.running_var.numpy())
np.testing.assert_allclose(theirs.running_mean.numpy(), mean, rtol=1e-4)
np.testing.assert_allclose(theirs.running_var.numpy(), unbiased, rtol=1e-4)
remaining = (1 - alpha) ** 20  # of the starting value 1, which is the same in both
np.testing.assert_allclose(unbiased - remaining, (variance - remaining) * n / (n - 1), rtol=1e-4)
