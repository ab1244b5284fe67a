"""Batch Renormalization (Ioffe 2017) for Keras 3, on TensorFlow, JAX and PyTorch.

Importing this package registers its layers and schedules with Keras, so that saved models load
without `custom_objects`.
"""

from brn import schedules
from brn.layers import BatchNormalization, BatchRenormalization
from brn.schedules import paper_clipping

__version__ = "0.1.0"

__all__ = ["BatchNormalization", "BatchRenormalization", "paper_clipping", "schedules"]
