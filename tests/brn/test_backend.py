"""A backend without modules of its own in `brn.backend` and `brn.kernels`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from reference import Reference

STEP = """
import json, brn, keras, numpy as np
x = np.arange(24.0, dtype="float32").reshape(6, 4) ** 2
layer = brn.BatchRenormalization(r_max=2.0, d_max=0.5, momentum=0.9, microbatch_size=4)
y = layer(x, training=True)
inference = layer(x)
try:
    brn.BatchNormalization(synchronized=True)(x, training=True)
except ValueError as error:
    refusal = str(error)
values = [np.asarray(value).tolist() for value in (y, inference, *layer.get_weights())]
print(json.dumps([*values, refusal]))
"""


@pytest.mark.skipif(keras.config.backend() != "jax", reason="once is enough")
def test_an_unknown_backend_gets_the_plain_functions():
    """Keras's numpy backend stands for all that are not known."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", STEP],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "numpy", "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    y, inference, _, _, mean, stddev, step, refusal = json.loads(done.stdout.splitlines()[-1])
    x = np.arange(24.0).reshape(6, 4) ** 2
    zeros, ones = np.zeros(4), np.ones(4)
    reference = Reference(
        gamma=ones, beta=zeros, mean=zeros, spread=ones, r_max=2.0, d_max=0.5, momentum=0.9,
        microbatch_size=4,
    )  # fmt: skip
    expected = reference.update(x)
    np.testing.assert_allclose(y, expected.y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(inference, reference.inference(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose((mean, stddev), (reference.mean, reference.spread), rtol=1e-5)
    assert step == 1
    assert "Received: synchronized=True with the backend 'numpy'" in refusal
