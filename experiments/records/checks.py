"""What a result, and the notes of a checkpoint, must look like to be used.

Each check raises a `ValueError` that says what was found; `store` adds the file and the way out.
"""

import hashlib
import json
import math
from typing import Any

import numpy as np

from experiments.grid.runs import Run

STATUSES = ("finished", "diverged")
_ENVIRONMENT = ("backend", "backend_version", "cores", "device", "keras", "numpy", "python")


def parsed(text: str | bytes) -> Any:
    """Returns what a JSON text says, without the numbers that JSON does not have."""

    def refuse(name):
        raise ValueError(f"{name}, which is no number")

    if not text.strip():
        raise ValueError("an empty file")
    return json.loads(text, parse_constant=refuse)


def check_result(run: Run, result: Any) -> None:
    """Raises a `ValueError` that says what keeps this from being a run's result."""
    _check_kinds(
        result,
        {"id": str, "status": str, "config": dict, "environment": dict, "curve": list}
        | {"wall_time_s": (int, float)},
    )
    if result["id"] != run.id:
        raise ValueError(f"id={result['id']!r}, another run's")
    if result["status"] not in STATUSES:
        raise ValueError(f"status={result['status']!r}, which is none of {', '.join(STATUSES)}")
    lacking = [name for name in _ENVIRONMENT if name not in result["environment"]]
    if lacking:
        raise ValueError(f"an environment without {', '.join(lacking)}")
    steps = _total_steps(result)
    last = _check_curve(result["curve"], steps)
    if result["status"] == "finished" and last != steps:
        raise ValueError(f"a curve that ends at step {last} of {steps}")


def check_notes(notes: Any) -> None:
    """Raises a `ValueError` that says what keeps these from being the notes of a checkpoint."""
    _check_kinds(
        notes,
        {"step": int, "curve": list, "losses": list, "diverged": bool, "config": dict}
        | {"wall_time_s": (int, float), "environments": list},
    )
    steps = _total_steps(notes)
    if not 1 <= notes["step"] <= steps or not notes["environments"]:
        raise ValueError(f"step={notes['step']} of {steps}, {notes['environments']=}")
    if notes["curve"]:
        _check_curve(notes["curve"], notes["step"])


def _total_steps(found):
    steps = found["config"].get("total_steps")
    if not isinstance(steps, int):
        raise ValueError(f"a configuration with total_steps={steps!r}")
    return steps


def _check_kinds(found, kinds):
    if not isinstance(found, dict):
        raise ValueError(f"{type(found).__name__} instead of names with values")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            raise ValueError(f"{name}={found.get(name)!r}" if name in found else f"no {name!r}")
    if not 0 <= found["wall_time_s"] < math.inf:
        raise ValueError(f"wall_time_s={found['wall_time_s']}")


def _check_curve(curve, steps):
    """Returns the last step of a curve, each point of which is names with finite numbers."""
    last = 0
    for point in curve:
        if not isinstance(point, dict) or not isinstance(point.get("step"), int):
            raise ValueError(f"a point of the curve without a step: {point!r}")
        if not last < point["step"] <= steps:
            raise ValueError(f"step {point['step']} after step {last}, of {steps}")
        last = point["step"]
        for name, value in point.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name}={value!r} at step {last}")
            if name.endswith("_percent") and not 0 <= value <= 100:
                raise ValueError(f"{name}={value!r} at step {last}")
    if not last:
        raise ValueError("a curve without a point")
    return last


def finite(array: np.ndarray) -> bool:
    """Returns whether all numbers of an array are finite."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    """Returns SHA-256 of the notes and of every array with its name, type and shape."""
    digest = hashlib.sha256(text.encode())
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
