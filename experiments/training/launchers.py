"""Which of how many processes this one is: from the command line, or from what started it.

| started by | number and count | process 0 |
|---|---|---|
| by hand | `--process`, `--processes` | `--coordinator HOST:PORT` |
| torchrun | `RANK`, `WORLD_SIZE` | `MASTER_ADDR`, the port after `MASTER_PORT` |
| Open MPI's mpirun | `OMPI_COMM_WORLD_RANK`, `_SIZE` | `--coordinator HOST:PORT` |
| Slurm's srun | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS` | first host, a port of the step's own |

What the command line says goes before the environment, the innermost launcher before outer ones. A
launcher of one process is none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One of several processes.

    Attributes:
        host, port: where process 0 waits for the others.
        processes: how many.
        process: which one this is, from 0.
        local: which one it is on its host, if the launcher says so.
    """

    host: str
    port: int
    processes: int
    process: int
    local: int | None = None


def place(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    environ: Mapping[str, str],
) -> Place | None:
    """Returns the place of this process, or `None` if it is alone.

    Args:
        coordinator, processes, process: of the command line.
        environ: the environment.

    Raises:
        ValueError: if something is missing or does not fit.
    """
    found = _launcher(environ)
    if processes is None and process is None:
        if found is None:
            if coordinator is None:
                return None
            raise ValueError(
                "Expected --processes and --process with --coordinator, or to be started by srun, "
                f"mpirun or torchrun. Received: --coordinator {coordinator}"
            )
        address, processes, process, local = found
    elif None in (processes, process, coordinator):
        raise ValueError(
            "Expected --coordinator, --processes and --process together. Received: "
            f"--coordinator {coordinator} --processes {processes} --process {process}"
        )
    else:
        address, local = None, None
    if processes < 1 or not 0 <= process < processes:
        raise ValueError(
            "Expected --processes of at least 1, and --process from 0 below it. Received: "
            f"--processes {processes} --process {process}"
        )
    if processes == 1 and coordinator is None:
        return None
    if coordinator is not None:
        address = _address(coordinator)
    if address is None:
        raise ValueError(
            "Expected --coordinator HOST:PORT, the same for all processes: Open MPI does not say "
            "where process 0 is. Received: no --coordinator"
        )
    return Place(*address, processes, process, local)


def _address(text):
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"Expected HOST:PORT, such as gpu1:29500. Received: --coordinator {text}")
    return host.strip("[]"), int(port)


def _launcher(environ):
    """Returns `(host, port)` or `None`, processes, process and which it is on its host."""

    def numbers(*names):
        return [int(environ[name]) for name in names]

    if all(n in environ for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        port = int(environ["MASTER_PORT"]) + 1  # torchrun itself may listen on the other
        local = environ.get("LOCAL_RANK")
        return (
            (environ["MASTER_ADDR"], port),
            *numbers("WORLD_SIZE", "RANK"),
            None if local is None else int(local),
        )
    if "OMPI_COMM_WORLD_RANK" in environ:
        of_mpi = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
        return (None, *numbers(*of_mpi))
    # A batch script is no step: what runs in it without srun is alone.
    if "SLURM_PROCID" in environ and environ.get("SLURM_STEP_ID", "").isdigit():
        host = _first_host(environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"])
        job, step = numbers("SLURM_JOB_ID", "SLURM_STEP_ID")
        port = 20_000 + (job * 101 + step) % 10_000
        return (
            (host, port),
            *numbers("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"),
        )
    return None


def _first_host(nodes):
    """Returns the first host of Slurm's list: "gpu[03-05,9],login" begins with "gpu03"."""
    name, digits, rest = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\])?([^,]*)", nodes).groups()
    return f"{name}{digits or ''}{rest}"
