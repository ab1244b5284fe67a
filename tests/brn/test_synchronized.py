"""`synchronized=True` spans the batches of all replicas; each backend in a process of its own."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

BACKEND = keras.config.backend()
SCRIPT = Path(__file__).parent / "synchronized_step.py"
WHOLE = [
    {"moving_mean": 1.5, "moving_variance": 1.25},
    {"moving_mean": 1.5, "moving_stddev": 1.25**0.5},
]


@functools.cache
def steps():
    """What the script prints: mode -> a result for each layer, of each replica on PyTorch."""
    root = str(SCRIPT.parents[2])
    done = subprocess.run(
        [sys.executable, SCRIPT],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def without_gradient(results):
    return [pytest.approx({k: v for k, v in r.items() if k != "dx"}, rel=1e-5) for r in results]


def test_synchronized_statistics_are_those_of_the_whole_batch():
    replicas = 2 if BACKEND == "torch" else 1
    assert without_gradient(steps()["synchronized"]) == WHOLE * replicas


def test_local_statistics_are_those_of_a_replica():
    expected = {
        # The variables of the replicas are averaged, not taken from the first one.
        "tensorflow": [
            {"moving_mean": 1.5, "moving_variance": 0.25},
            {"moving_mean": 1.5, "moving_stddev": 0.5},
        ],
        "jax": WHOLE,
        "torch": [
            {"moving_mean": mean, spread: value}
            for mean in (0.5, 2.5)
            for spread, value in (("moving_variance", 0.25), ("moving_stddev", 0.5))
        ],
    }[BACKEND]
    assert without_gradient(steps()["local"]) == expected


if BACKEND == "jax":

    @pytest.mark.parametrize("way", ["pmap", "shard"])
    def test_statistics_span_the_devices_that_a_step_is_mapped_over(way):
        got = steps()[way]
        assert without_gradient(got) == WHOLE
        for result in got:
            np.testing.assert_allclose(result["dx"], expected_gradient(), rtol=1e-5)


def expected_gradient():
    x = np.arange(4.0)
    sigma = 1.25**0.5
    x_hat = (x - 1.5) / sigma
    upstream = 3 * x_hat**2
    return (upstream - upstream.mean() - x_hat * (upstream * x_hat).mean()) / sigma


if BACKEND == "torch":  # TensorFlow and JAX differentiate their own reductions

    def test_the_gradient_flows_through_the_statistics_of_all_replicas():
        got = [result["dx"] for result in steps()["synchronized"]]
        for batch_norm, renorm in (got[0:2], got[2:4]):
            np.testing.assert_allclose(batch_norm, renorm, rtol=1e-5)
        np.testing.assert_allclose(got[0] + got[2], expected_gradient(), rtol=1e-5)
