"""The arithmetic of the layers, on activations grouped as `(groups, elements, channels, rest)`."""

import importlib

import keras

from brn.kernels.plain import Moments, SplitMean, moments, normalize

_backend = importlib.import_module(f"brn.kernels.{keras.config.backend()}")


def replica_sum(synchronized):
    """Returns what adds up totals over replicas: the backend's sum, or nothing at all."""
    return _backend.replica_sum if synchronized else (lambda total: total)


__all__ = ["Moments", "SplitMean", "moments", "normalize", "replica_sum"]
