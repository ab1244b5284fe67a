"""What differs between the backends besides arithmetic, behind one signature.

A backend that has no module here gets `other`: what Keras itself says of it.
"""

import importlib

import keras

KNOWN = ("jax", "tensorflow", "torch")

_name = keras.config.backend()
_backend = importlib.import_module(f"brn.backend.{_name if _name in KNOWN else 'other'}")

TrainingPass = _backend.TrainingPass
compiled = _backend.compiled
is_plain_call = _backend.is_plain_call
known_finite = _backend.known_finite
known_number = _backend.known_number
move = _backend.move
ops = _backend.ops
read = _backend.read
replica_sum = _backend.replica_sum
reshape = _backend.reshape
shortcut = _backend.shortcut

__all__ = [
    "KNOWN",
    "TrainingPass",
    "compiled",
    "is_plain_call",
    "known_finite",
    "known_number",
    "move",
    "ops",
    "read",
    "replica_sum",
    "reshape",
    "shortcut",
]
