"""What a run writes, in little."""

ENVIRONMENT = {
    "backend": "jax",
    "backend_version": "1",
    "cores": 2,
    "device": "a processor",
    "keras": "3",
    "numpy": "2",
    "python": "3.11",
}


def result(run, **changes):
    """A result of a run, with one point at its end."""
    return {
        "id": run.id,
        "status": "finished",
        "config": run.config(),
        "environment": ENVIRONMENT,
        "wall_time_s": 7200,
        "curve": [{"step": run.protocol.steps, "validation_accuracy_percent": 50.0}],
        **changes,
    }


def notes(step, **changes):
    """The notes of a checkpoint."""
    return {
        "step": step,
        "curve": [],
        "losses": [],
        "diverged": False,
        "wall_time_s": 10.0,
        "environments": [ENVIRONMENT],
        **changes,
    }
