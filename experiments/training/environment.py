"""What a run was made with: commit, versions, backend, device."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

_ROOT = Path(__file__).resolve().parents[2]
_CODE = ("brn", "experiments")


def environment() -> dict:
    """Returns commit, versions, backend and device: a flat dict, ready for JSON."""
    backend = keras.config.backend()
    return {
        "commit": _git("rev-parse", "HEAD"),
        "modified": bool(_git("status", "--porcelain", "--", *_CODE)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "keras": keras.__version__,
        "backend": backend,
        "backend_version": metadata.version(backend),
        "numpy": np.__version__,
        "device": gpu() or _cpu(),
        "cores": _cores(),
    }


def _cores():
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def gpu() -> str | None:
    """Returns the name of the GPU, or another accelerator, that computes; `None` without one."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return None if device.platform == "cpu" else device.device_kind
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return None


def _cpu():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
