"""Fixtures of all tests. `KERAS_BACKEND` chooses the backend; one process has one backend."""

import contextlib

import keras
import numpy as np
import pytest


@pytest.fixture
def rng():
    """A generator with the same numbers in every test."""
    return np.random.default_rng(20170330)


@pytest.fixture
def float64():
    """Let the backend compute in float64 for the length of a test.

    Only JAX needs it. The switch is a context and not a global setting, because users of JAX run
    with float32 defaults, which is what the other tests must see.
    """
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        yield "float64"
