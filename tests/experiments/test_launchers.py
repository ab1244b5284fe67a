"""Which process this is, from flags and from the environments of launchers."""

import pytest

from experiments.training.launchers import Place, place

pytestmark = pytest.mark.any_backend

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[03-05,9],login2",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
TORCHRUN = {
    "RANK": "2",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29500",
}


def test_flags_say_it_all():
    assert place("node1:9000", 4, 2, {}) == Place("node1", 9000, 4, 2)
    assert place("[::1]:9000", 4, 2, SLURM) == Place("::1", 9000, 4, 2)
    assert place(None, None, None, {"PATH": "/bin"}) is None
    assert place("localhost:9000", 1, 0, {}) == Place("localhost", 9000, 1, 0)


def test_torchrun_slurm_and_open_mpi_say_it():
    assert place(None, None, None, TORCHRUN) == Place("node7", 29501, 4, 2, local=0)
    slurm = place(None, None, None, SLURM)
    assert (slurm.host, slurm.processes, slurm.process, slurm.local) == ("gpu03", 8, 5, 1)
    assert place("node1:9000", None, None, OPEN_MPI) == Place("node1", 9000, 4, 3, local=1)


def test_the_innermost_launcher_is_the_one():
    assert place(None, None, None, SLURM | TORCHRUN).host == "node7"


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("login", "login"),
        ("a1,a2", "a1"),
        ("n[7,9]", "n7"),
        ("rack-2n[001-100]-ib", "rack-2n001-ib"),
    ],
)
def test_the_first_host_of_a_list_leads(nodes, first):
    assert place(None, None, None, SLURM | {"SLURM_STEP_NODELIST": nodes}).host == first


def test_two_steps_of_one_job_do_not_meet():
    ports = {
        place(None, None, None, SLURM | {"SLURM_STEP_ID": str(step)}).port for step in range(50)
    }
    assert len(ports) == 50


def test_a_batch_script_and_a_launcher_of_one_are_alone():
    batch = {name: value for name, value in SLURM.items() if "STEP" not in name}
    assert place(None, None, None, batch) is None
    one = SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}
    assert place(None, None, None, one) is None


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (("node1:9000", None, None, {}), "--coordinator node1:9000"),
        (("node1:9000", 4, None, {}), "--processes 4 --process None"),
        ((None, 4, 1, {}), "--coordinator None"),
        (("node1", 4, 1, {}), "--coordinator node1"),
        (("node1:http", 4, 1, {}), "--coordinator node1:http"),
        (("node1:9000", 4, 4, {}), "--processes 4 --process 4"),
        ((None, None, None, OPEN_MPI), "no --coordinator"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(arguments, received):
    with pytest.raises(ValueError, match=received):
        place(*arguments)
