"""Batch Renormalization (Ioffe 2017) for Keras 3, on TensorFlow, JAX and PyTorch.

Importing this package registers its layers and schedules with Keras, so that saved models load
without `custom_objects`.
"""

from brn import callbacks, schedules
from brn.layers import BatchNormalization, BatchRenormalization
from brn.models.convert import convert
from brn.models.recalibrate import recalibrate
from brn.probe import Corrections, Probe, corrections
from brn.schedules import paper_clipping

__version__ = "0.1.0"

__all__ = [
    "BatchNormalization",
    "BatchRenormalization",
    "Corrections",
    "Probe",
    "callbacks",
    "convert",
    "corrections",
    "paper_clipping",
    "recalibrate",
    "schedules",
]
