"""Processes find each other, talk, and end together when one is lost: real ones, without a backend.

Each is a Python that imports nothing but the standard library, so a drill takes a second.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from group_fixtures import by_slurm, by_torchrun

from experiments.training.watch import COMPILED, STUCK, Watch, in_words, limit

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, time
from experiments.training import group as module
from experiments.training import signals, watch
from experiments.training.launchers import Place, place

module.START = float(os.environ.get("START", "4"))
module.SILENCE, watch.STUCK, module._BEAT = 1.0, 3.0, 0.1
signals.STOP_SECONDS = 2.0
port, size, rank, task, body = sys.argv[1:]
sys.argv[1:] = ["run", "--process", rank]
rank = int(rank)
here = Place("localhost", int(port), int(size), rank)
try:
    group = module.Group(place(None, None, None, os.environ) or here, task)
except ValueError as error:
    sys.exit(f"refused: {error}")
print("met", flush=True)
exec(body)
group.leave()
sys.exit(signals.exit_code(group.signal) if group.signal else 0)
"""
SLEEP = "time.sleep(60)"
TALK = "while True: group.first(bytes(10_000))"
TRAIN = """
for step in range(1, 10_000):
    group.moved(step)
    time.sleep(0.01)
    group.everyone(step)  # as the step's own traffic
    if not group.goes_on():
        break
group.rests()
print("stopped at", step)
"""


def start(port, size, rank, body="", task="a task", environment=()):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port), str(size), str(rank), task, body],
        cwd=ROOT,
        env=os.environ | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def port():
    with socket.create_server(("localhost", 0)) as free:
        return free.getsockname()[1]


def ends(processes, within=30):
    """Returns exit code and standard error of each process."""
    deadline = time.monotonic() + within
    found = []
    for process in processes:
        out, error = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
        found.append((process.returncode, out, error))
    return found


def met(processes):
    for process in processes:
        assert process.stdout.readline() == "met\n"


def test_what_each_says_reaches_everyone_and_the_leaders_word_all(port):
    body = "print(group.everyone([rank]), group.first(b'go' if rank == 0 else None))"
    for code, out, error in ends([start(port, 3, rank, body) for rank in range(3)]):
        assert (code, error) == (0, "")
        assert out == "met\n[[0], [1], [2]] b'go'\n"


@pytest.mark.parametrize("body", [SLEEP, TALK], ids=["at rest", "talking"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_killed_process_is_named_by_every_survivor_with_the_command_to_go_on(port, lost, body):
    processes = [start(port, 3, rank, body) for rank in range(3)]
    met(processes)
    processes[lost].send_signal(signal.SIGKILL)
    found = ends(processes)
    for rank, (code, _, error) in enumerate(found):
        if rank == lost:
            assert code == -signal.SIGKILL
            continue
        assert code == 1
        (line,) = error.strip().splitlines()
        assert f"process {lost} of 3 ({socket.gethostname()}, pid {processes[lost].pid})" in line
        assert f"python -m experiments run --process {rank} " in line


BROKEN = """
if rank == 1:
    os.kill(os.getpid(), 9)
import threading
seen, lost = threading.Event(), group._lost
def late(*arguments):
    seen.set()
    time.sleep(0.3)
    lost(*arguments)
group._lost = late
seen.wait()
group.fail(ValueError("connection closed by peer"))
"""


def test_a_killed_process_is_named_also_where_its_end_first_breaks_something_else(port):
    (code, _, error), _ = ends([start(port, 2, rank, BROKEN) for rank in range(2)])
    assert code == 1
    assert "error: process 1 of 2 (" in error


def test_a_survivor_ends_also_where_nobody_reads_what_it_says(port):
    processes = [start(port, 2, rank, SLEEP) for rank in range(2)]
    met(processes)
    for pipe in (processes[0].stdout, processes[0].stderr):
        pipe.close()
    processes[1].kill()
    assert processes[0].wait(timeout=30) == 1
    processes[1].communicate()


@pytest.mark.parametrize("still", [0, 1])
def test_a_process_that_gives_no_sign_of_life_is_lost_but_one_that_is_slow_is_not(port, still):
    processes = [start(port, 2, rank, TRAIN) for rank in range(2)]
    met(processes)
    try:
        os.kill(processes[still].pid, signal.SIGSTOP)
        time.sleep(2)  # longer than a host may be silent
        os.kill(processes[still].pid, signal.SIGCONT)
        time.sleep(0.5)
        assert [process.poll() for process in processes] == [None, None]
        os.kill(processes[still].pid, signal.SIGSTOP)
        ((code, _, error),) = ends([processes[1 - still]])
    finally:
        processes[still].kill()
        processes[still].communicate()
    assert code == 1
    assert f"process {still} of 2" in error
    assert "no sign of life for 3 s" in error or "stuck at step" in error


CUT_OFF = """
set -e
ip link set lo up
met=$1; shift
for rank in 0 1; do "$@" $rank "a task" "time.sleep(60)" >> $met & done
until [ "$(grep -o met $met | wc -l)" = 2 ]; do kill -0 $(jobs -p); sleep 0.1; done
ip link set lo down
for process in $(jobs -p); do wait $process && exit 9 || [ $? = 1 ]; done
"""


def test_processes_whose_network_is_cut_end(port, tmp_path):
    """In a network of their own, which takes more rights than most have."""
    command = ["unshare", "--net", "bash", "-c", CUT_OFF, "-", tmp_path / "met"]
    command += [sys.executable, "-c", SCRIPT, str(port), "2"]
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no right to a network of one's own")
    patient = os.environ | {"START": "20"}  # a busy machine starts them one long after the other
    done = subprocess.run(
        command, cwd=ROOT, env=patient, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert f"error: process {rank} of 2" in done.stderr
    assert done.stderr.count("is gone (") == 2


@pytest.mark.parametrize("told", [(0,), (1,), (0, 1, 2)])
def test_a_signal_to_any_stops_all_after_the_same_step(port, told):
    processes = [start(port, 3, rank, TRAIN) for rank in range(3)]
    met(processes)
    time.sleep(0.5)
    for rank in told:
        processes[rank].send_signal(signal.SIGTERM)
    (first, *others) = ends(processes)
    code, out, error = first
    assert (code, error) == (75, "")
    assert "stopped at" in out
    assert others == [first] * 2


@pytest.mark.parametrize("told", [0, 1])
@pytest.mark.parametrize(
    ("number", "code", "body", "least"),
    [
        (signal.SIGTERM, 75, SLEEP, 0),
        (signal.SIGINT, 130, SLEEP, 0),
        (signal.SIGTERM, 75, f"group.goes_on(); {SLEEP}", 2),
    ],
    ids=["at rest", "Ctrl-C", "in a step that does not end"],
)
def test_a_signal_ends_all_in_time_whatever_they_do(port, told, number, code, body, least):
    processes = [start(port, 2, rank, body) for rank in range(2)]
    met(processes)
    time.sleep(0.2)
    began = time.monotonic()
    processes[told].send_signal(number)
    found = ends(processes)
    assert time.monotonic() - began >= least
    for rank, (got, _, error) in enumerate(found):
        assert got == code, error
        (line,) = error.strip().splitlines()
        assert line.startswith(f"Stopped by {number.name}.")
        assert f"python -m experiments run --process {rank} " in line


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_a_signal_ends_processes_that_wait_for_others_to_come(port):
    processes = [start(port, 3, rank) for rank in range(2)]
    for process in processes:
        while not hears(process):
            time.sleep(0.05)
    time.sleep(0.5)
    processes[0].send_signal(signal.SIGTERM)
    for code, _, error in ends(processes):
        assert code == 75
        assert "Stopped by SIGTERM" in error


def hears(process):
    """Whether a process has said what to do at SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize("launcher", [by_slurm, by_torchrun])
def test_processes_of_a_launcher_meet_and_two_steps_of_one_job_do_not_collide(port, launcher):
    of_steps = (0, 1) if launcher is by_slurm else (0,)
    processes = [
        start(0, 0, rank, f"print(group.everyone({step}))", environment=launcher(rank, port, step))
        for rank in range(2)
        for step in of_steps
    ]
    for index, (code, out, error) in enumerate(ends(processes)):
        step = of_steps[index % len(of_steps)]
        assert (code, out, error) == (0, f"met\n[{step}, {step}]\n", "")


def test_a_process_that_lives_but_is_stuck_is_found_by_those_who_wait_for_it(port):
    body = "group.moved(6)\ngroup.moved(7)\nif rank == 1: time.sleep(60)\ngroup.everyone(rank)"
    processes = [start(port, 3, rank, body) for rank in range(3)]
    for code, _, error in ends(processes):
        assert code == 1
        assert "process 1 of 3 has been stuck at step 7 for 3 s" in error


@pytest.mark.parametrize("first", [0, 5], ids=["first run", "a later run"])
def test_a_process_that_is_stuck_while_it_loads_data_is_found(port, first):
    """As `distributed` does it: the leader loads first, then the others."""
    body = f"watch.COMPILED = 2.0\ngroup.moved({first or None})\n"
    body += "group.begins()\ngroup.everyone('loaded')\nif rank == 2: time.sleep(60)\n"
    processes = [start(port, 3, rank, f"{body}group.everyone('loaded')") for rank in range(3)]
    for code, _, error in ends(processes):
        assert code == 1
        assert "process 2 of 3 has been stuck before the first step" in error


def test_compiling_may_take_longer_than_a_step(port):
    body = "group.moved(1)\ntime.sleep(4)\ngroup.everyone(rank)"
    for code, _, error in ends([start(port, 1, 0, body)]):
        assert (code, error) == (0, "")


def test_who_is_stuck_is_told_from_those_who_wait():
    assert "process 2 of 3 has been stuck at step 4" in in_words(
        {0: [5, 9, False], 1: [5, 9, False], 2: [4, 8, False]}, 3
    )
    assert "process 0, 2 of 3" in in_words({0: [5, 1, False], 1: [5, 2, True], 2: [5, 1, False]}, 3)
    assert "no process has moved" in in_words({0: [5, 1, False], 1: [5, 1, False]}, 3)


def test_what_comes_before_the_end_of_a_first_step_may_take_longest():
    loads, compiles, trains = [0, 0, False], [1, 1, False], [7, 9, False]
    resumed = [5000, 1, False]  # compiles as well
    assert [limit({0: trains, 1: state}) for state in (loads, compiles, resumed, trains)] == [
        COMPILED,
        COMPILED,
        COMPILED,
        STUCK,
    ]
    watch = Watch(0, 1)
    watch.moved(7)
    watch.moved(8)
    watch.begins()
    watch.moved(5000)  # of the next run
    assert watch.mine == resumed


@pytest.mark.parametrize("missing", [0, 2])
def test_who_does_not_come_is_named(port, missing):
    processes = [start(port, 3, rank) for rank in range(3) if rank != missing]
    for code, _, error in ends(processes):
        assert code == 1
        assert f"process {missing} of 3" in error
        assert missing or "in 4 s (Connection refused)" in error


def test_an_error_of_one_ends_all_and_is_told_by_all(port):
    body = "if rank == 1: group.fail(ValueError('no data here'))\ngroup.everyone(rank)"
    for code, _, error in ends([start(port, 2, rank, body) for rank in range(2)]):
        assert code == 1
        assert "process 1 of 2 failed: no data here" in error


def test_processes_started_with_different_tasks_are_refused(port):
    processes = [start(port, 2, rank, task=f"task {rank}") for rank in range(2)]
    for code, _, error in ends(processes):
        assert code == 1
        assert "task='task 1' of process 1, and of process 0 task='task 0'" in error


def test_a_port_that_is_taken_is_said():
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        ((code, _, error),) = ends([start(port, 2, 0)])
    assert code == 1
    assert f"Received: --coordinator localhost:{port}" in error
