"""The naive reference: normalization one group and one channel at a time, in float64 numpy.

Slow and literal on purpose. It shares no code with the package, so that an error in one is not
repeated in the other. `test_reference.py` holds it against finite differences.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class Pass:
    """What one training step computed; the statistics have shape `(groups, channels)`."""

    y: np.ndarray
    x_hat: np.ndarray
    r: np.ndarray
    d: np.ndarray
    r_clipped: np.ndarray
    d_clipped: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    sigma: np.ndarray
    count: np.ndarray


@dataclasses.dataclass
class Reference:
    """A normalization layer: Algorithm 1, or batch normalization where `renormalizes` is false.

    `spread` is the moving standard deviation of batch renormalization and the moving variance of
    batch normalization. `r_max` and `d_max` are numbers or functions of the step.
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    step: int = 0
    axis: int = -1
    epsilon: float = 1e-3
    momentum: float = 0.99
    r_max: object = np.inf
    d_max: object = np.inf
    microbatch_size: int | None = None
    bias_correction: bool = False
    renormalizes: bool = True

    def __post_init__(self):
        self.gamma, self.beta, self.mean, self.spread = (
            np.array(value, np.float64) for value in (self.gamma, self.beta, self.mean, self.spread)
        )

    @property
    def sigma(self):
        """The standard deviation that inference divides by."""
        if self.renormalizes:
            return np.maximum(self.spread, np.sqrt(self.epsilon))
        return np.sqrt(self.spread + self.epsilon)

    def bounds(self):
        """The bounds of r and d at the present step."""
        if not self.renormalizes:
            return 1.0, 0.0
        return tuple(
            bound(self.step) if callable(bound) else bound for bound in (self.r_max, self.d_max)
        )

    def inference(self, x):
        """Normalize with the moving statistics."""
        x = self._channels_last(x)
        return self._restore(self.gamma * (x - self.mean) / self.sigma + self.beta)

    def forward(self, x, mask=None, corrections=None):
        """Normalize with minibatch statistics; `corrections` puts given r and d in their place."""
        mask = self._channels_last(self._full_mask(mask, np.shape(x)))
        x = self._channels_last(x)
        groups, channels = self._groups(len(x)), x.shape[-1]
        table = {field.name: [] for field in dataclasses.fields(Pass)[2:]}
        y, x_hat = np.empty_like(x), np.empty_like(x)
        r_max, d_max = self.bounds()
        for group in groups:
            for c in range(channels):
                counted = x[group, ..., c][mask[group, ..., c]]
                if counted.size:
                    mu_B = counted.mean()
                    variance = np.mean((counted - mu_B) ** 2)
                    sigma_B = np.sqrt(self.epsilon + variance)
                else:
                    mu_B, variance, sigma_B = self.mean[c], np.nan, self.sigma[c]
                wanted_r, wanted_d = sigma_B / self.sigma[c], (mu_B - self.mean[c]) / self.sigma[c]
                r = min(max(wanted_r, 1 / r_max), r_max)
                d = min(max(wanted_d, -d_max), d_max)
                if corrections is not None:
                    at = len(table["r"])
                    r, d = (values.reshape(-1)[at] for values in corrections)
                x_hat[group, ..., c] = (x[group, ..., c] - mu_B) / sigma_B * r + d
                y[group, ..., c] = self.gamma[c] * x_hat[group, ..., c] + self.beta[c]
                row = (r, d, r != wanted_r, d != wanted_d, mu_B, variance, sigma_B, counted.size)
                for values, value in zip(table.values(), row, strict=True):
                    values.append(value)
        shape = (len(groups), channels)
        statistics = {name: np.reshape(values, shape) for name, values in table.items()}
        return Pass(y=self._restore(y), x_hat=self._restore(x_hat), **statistics)

    def backward(self, x, upstream, mask=None):
        """The gradients `(dx, dgamma, dbeta)` by the formulas of section 3, r and d constant."""
        done = self.forward(x, mask)
        mask = self._channels_last(self._full_mask(mask, np.shape(x)))
        x, dy, x_hat = (self._channels_last(value) for value in (x, upstream, done.x_hat))
        dx = np.empty_like(x)
        for g, group in enumerate(self._groups(len(x))):
            for c in range(x.shape[-1]):
                mu_B, sigma_B, r = done.mean[g, c], done.sigma[g, c], done.r[g, c]
                centred = x[group, ..., c] - mu_B
                dx_hat = dy[group, ..., c] * self.gamma[c]
                dsigma_B = np.sum(dx_hat * centred) * (-r / sigma_B**2)
                dmu_B = np.sum(dx_hat) * (-r / sigma_B)
                dx[group, ..., c] = dx_hat * r / sigma_B
                m, w = done.count[g, c], mask[group, ..., c]
                if m:
                    dx[group, ..., c] += w * (dsigma_B * centred / (m * sigma_B) + dmu_B / m)
        positions = tuple(range(x.ndim - 1))
        return self._restore(dx), np.sum(dy * x_hat, positions), np.sum(dy, positions)

    def update(self, x, mask=None):
        """Move the statistics by one training step, and return what the step computed."""
        done = self.forward(x, mask)
        if not done.count.any():
            return done
        alpha = 1 - self.momentum
        if self.bias_correction:
            alpha /= 1 - (1 - alpha) ** (self.step + 1)
        spreads = done.sigma if self.renormalizes else done.variance
        for c in np.flatnonzero(done.count.any(axis=0)):
            seen = done.count[:, c] > 0
            weights = done.count[seen, c]
            self.mean[c] += alpha * (np.average(done.mean[seen, c], weights=weights) - self.mean[c])
            spread = np.average(spreads[seen, c], weights=weights)
            self.spread[c] += alpha * (spread - self.spread[c])
        self.step += 1
        return done

    def _channels_last(self, x):
        x = np.asarray(x)
        return np.moveaxis(x if x.dtype == bool else x.astype(np.float64), self.axis, -1)

    def _restore(self, x):
        return np.moveaxis(x, -1, self.axis)

    def _groups(self, examples):
        size = self.microbatch_size or examples
        return [slice(first, first + size) for first in range(0, examples, size)]

    @staticmethod
    def _full_mask(mask, shape):
        mask = np.asarray(True if mask is None else mask, bool)
        if 0 < mask.ndim < len(shape):
            mask = mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))
        return np.broadcast_to(mask, shape)
