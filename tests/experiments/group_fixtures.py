"""Processes that train together: how tests start them, and what they must leave behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "group_process.py"


def start(folder, size, names, protocol="smoke", killed=None, after=None, number=signal.SIGKILL):
    """Starts processes; `killed` sends itself a signal after step `after`."""
    folder.mkdir(exist_ok=True)
    port = 0
    if size:
        with socket.create_server(("localhost", 0)) as free:
            port = free.getsockname()[1]
    # Small programs that run for a moment: compiling is what takes long.
    options = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    options |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    if protocol.startswith("imagenet"):  # all variants of one process are the same program
        options = {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled")} | options
    return [
        subprocess.Popen(
            [sys.executable, SCRIPT, folder, protocol, names, str(port), str(size or 1), str(rank)]
            + ([str(after), str(int(number))] if rank == killed else []),
            cwd=ROOT,
            env=options,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size or 1)
    ]


def finish(processes, code=0):
    errors = [process.communicate(timeout=3000)[1] for process in processes]
    assert [process.returncode for process in processes] == [code] * len(processes), errors


def lose(processes, killed):
    """Waits for the one that kills itself; returns the seconds the others take to end."""
    processes[killed].communicate(timeout=3000)
    since = time.monotonic()
    assert processes[killed].returncode == -signal.SIGKILL
    for rank, process in enumerate(processes):
        if rank != killed:
            _, error = process.communicate(timeout=120)
            assert process.returncode == 1, error
            (line,) = [line for line in error.splitlines() if line and not _is_said_anyway(line)]
            assert line.startswith("error:")
            assert f"process {killed} of {len(processes)}" in line, line
            assert f"pid {processes[killed].pid}" in line
            assert "python -m experiments" in line
    return time.monotonic() - since


def _is_said_anyway(line):
    """Whether a line of standard error is of the progress, or one that TensorFlow begins with."""
    others = (" steps, ", "port.cc", "cudart_stub.cc", "absl::InitializeLog")
    return any(other in line for other in others)


def weights(folder, arm, rank=0):
    with np.load(folder / f"{arm}-{rank}.npz") as saved:
        return [saved[name] for name in sorted(saved)]


def losses(folder, arm, rank=0):
    """Each step's, as it was computed; a curve has six decimals of them."""
    return np.load(folder / f"losses-{arm}-{rank}.npy")


def result(folder, arm):
    return json.loads((folder / "runs" / "smoke" / f"smoke-{arm}-s0.json").read_text())


DIFFERENCE = "weights differ, of a tensor's largest value"
MEDIAN = "weights differ, in half of the tensors by less than"


def differences(values, others):
    """The largest one of each tensor, in units of its largest value."""
    pairs = [(a, b.astype(float)) for a, b in zip(values, others, strict=True)]
    tiny = np.finfo(float).tiny  # some tensors are 0 in both
    return [float(np.abs(a - b).max() / max(np.abs(b).max(), tiny)) for a, b in pairs]


def difference(values, others):
    """The largest one of all tensors, in units of each one's largest value."""
    return max(differences(values, others))


def check_together(folder, arm, size):
    """Ranks are bit-identical and one result is left; returns the weights and the result."""
    first, got = weights(folder, arm), result(folder, arm)
    for rank in range(1, size):
        for value, other in zip(weights(folder, arm, rank), first, strict=True):
            np.testing.assert_array_equal(value, other)
    assert (got["environment"]["processes"], got["environment"]["devices"]) == (size, size)
    assert not list((folder / "checkpoints").rglob("*.npz"))
    return first, got


def check_equal(folder, expected, arm, size):
    """What several processes leave, once, equals in weights and curve what one process does.

    Returns:
        By quantity, how much differs from the one process's.
    """
    (first, got), one = check_together(folder, arm, size), result(expected, arm)
    found = {DIFFERENCE: difference(first, weights(expected, arm))}
    assert found[DIFFERENCE] < 1e-6
    assert got["config"] == one["config"]
    losses = []
    for point, other in zip(got["curve"], one["curve"], strict=True):
        assert list(point) == list(other)
        for name, value in point.items():
            of_losses = isinstance(value, float) and name.startswith("training_loss")
            last_digit = 1.1e-6 if of_losses else 0
            assert value == pytest.approx(other[name], rel=1e-6, abs=last_digit), name
            if of_losses:
                losses.append(value != other[name])
    return found | {"losses differ in the last of six decimals": f"{sum(losses)} of {len(losses)}"}


EXCHANGE = """
import sys, time
import jax
import numpy as np
from experiments.training.devices import Devices
from experiments.training.group import Group
from experiments.training.launchers import Place

port, rank, late, steps = map(int, sys.argv[1:])
group = Group(Place("localhost", port, 2, rank), "")
with group.together():
    devices = Devices(group)
    mesh, spec = devices.distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec
    layout = jax.sharding.NamedSharding(mesh, spec("minibatches"))
    numbers = jax.make_array_from_callback((2, 9), layout, lambda _: np.ones((1, 9)))
    mean = jax.shard_map(
        lambda x: jax.lax.pmean(x, "minibatches"),
        mesh=mesh,
        in_specs=spec("minibatches"),
        out_specs=spec(),
    )
    mean = jax.jit(mean)
    group.everyone("ready")
    time.sleep(late * rank)
    print("steps", flush=True)
    for _ in range(steps):
        mean(numbers).block_until_ready()
devices.leave()
"""


def exchange(late, steps):
    """Starts two processes that exchange numbers and train nothing."""
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    return [
        subprocess.Popen(
            [sys.executable, "-c", EXCHANGE, port, str(rank), str(late), str(steps)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


# What launchers set


def by_slurm(rank, port, step):
    names = {"JOB_ID": port, "STEP_ID": step, "PROCID": rank, "LOCALID": rank}
    names |= {"STEP_NUM_TASKS": 2, "STEP_NODELIST": "localhost"}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


def by_torchrun(rank, port, step):
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}
    names |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port - 1}
    return {name: str(value) for name, value in names.items()}


def by_open_mpi(rank, port, step):
    names = {"RANK": rank, "LOCAL_RANK": rank, "SIZE": 2}
    return {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in names.items()}
