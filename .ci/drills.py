"""Provokes the faults that a run can meet, and counts what was lost: nothing should be.

    python .ci/drills.py [--kills 50] [--seed 0]          some fifteen minutes on two cores

Over a run of digits and one of a folder of images: kill -9 at random moments, of the command alone
and of all its processes; kills of single processes; SIGTERM; a disk that takes no more; and every
kind of file that is read, damaged in every way. After each, no process is left, every file is whole
or named, and at the end each learning curve is the one of a run that nobody disturbed.
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from experiments.__main__ import main
from experiments.grid.runs import protocol_named, select_runs
from experiments.records.store import Store
from experiments.training.workers import STOPPED

END_SECONDS = 15
"""So soon after its command every process must have ended."""
DIGITS = ["--protocol", "digits", "--arms", "bn-4,brn-noniid", "--seeds", "0", "--set", "steps=80"]
FOLDER = """
base = "smoke"
source = "folder:images"
image_size = 8
classes = 4
training_images = 80
steps = 60
evaluate_every = 10
arms = ["bn-32", "brn-4"]
seeds = [0]
"""


class Drill:
    """A command that is disturbed, the curves that it should end with, and what was counted.

    Args:
        name: of what it runs.
        arguments: of `run`.
        runs: that the command trains.
        folder: to work in.
    """

    def __init__(self, name, arguments, runs, folder):
        self.name, self.arguments, self.runs, self.folder = name, arguments, runs, folder
        started = time.monotonic()
        expected = self.folder / f"{name}-undisturbed"
        assert self.finish(expected) == 0, f"{name}: the undisturbed run failed"
        self.seconds = time.monotonic() - started
        self.curves = self.read_curves(expected)

    def start(self, results, **options):
        """Starts the command in a session of its own; what it says goes into a log."""
        command = [sys.executable, "-m", "experiments", "run", *self.arguments]
        command += ["--results", str(results), "--data-dir", "data", "--jobs", "2"]
        command += ["--checkpoint-minutes", "0.01"]
        log = open(f"{results}.log", "a")  # noqa: SIM115  (the process keeps it)
        return psutil.Popen(
            command, cwd=self.folder, stderr=log, stdout=log, start_new_session=True, **options
        )

    def finish(self, results, **options):
        """Runs the command to its end; returns its exit code."""
        return self.start(results, **options).wait()

    def read_curves(self, results):
        """Returns run -> curve of the runs that have ended; a file that is not whole raises."""
        store = Store(results)
        found = {run.id: store.result(run) for run in self.runs}
        for run in self.runs:
            store.checkpoint(run)
        return {name: result["curve"] for name, result in found.items() if result}

    def check_the_end(self, results):
        """Holds the curves against those of the undisturbed runs."""
        assert self.read_curves(results) == self.curves, f"{results}: other curves, see its .log"


def wait_for_the_end(processes):
    """Waits until processes have ended; they must within `END_SECONDS`."""
    _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
    assert not alive, f"{alive} did not end"


def family(process):
    """Returns a command's processes, itself first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def workers(process):
    """Returns the processes that train."""
    return [p for p in family(process)[1:] if "spawn_main" in " ".join(p.cmdline())]


def kill_at_random(drill, number, chance):
    """Kills the command, alone or with its processes, at random moments of its runs."""
    done, results = 0, None
    while done < number:
        if results is None:
            results = drill.folder / f"{drill.name}-killed-{done}"
        process = drill.start(results)
        time.sleep(chance.uniform(0, drill.seconds))
        everyone = family(process)
        if process.poll() is not None:
            drill.check_the_end(results)
            results = None
            continue
        for one in everyone if chance.random() < 0.5 else everyone[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        wait_for_the_end(everyone)
        drill.read_curves(results)
        done += 1
    if results is not None:
        assert drill.finish(results) == 0
        drill.check_the_end(results)
    return f"{done} kill -9 at random moments"


def kill_single_processes(drill, number, chance):
    """Kills one of the command's processes: it is named, the others finish."""
    for index in range(number):
        results = drill.folder / f"{drill.name}-worker-{index}"
        process = drill.start(results)
        while len(workers(process)) < 2:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, drill.seconds / 3))
        victims = workers(process)
        killed = bool(victims) and process.poll() is None
        if killed:
            chance.choice(victims).kill()
        code = process.wait()
        log = Path(f"{results}.log").read_text()
        assert code == (1 if "died (SIGKILL" in log else 0), f"{results}: exit code {code}"
        assert len(drill.read_curves(results)) >= len(drill.runs) - 1
        assert drill.finish(results) == 0
        drill.check_the_end(results)
    return f"{number} kills of single processes"


def terminate(drill, number, chance):
    """Sends SIGTERM: an end with a checkpoint and a code of its own."""
    for index in range(number):
        results = drill.folder / f"{drill.name}-terminated-{index}"
        process = drill.start(results)
        while not workers(process):
            time.sleep(0.05)
        time.sleep(chance.uniform(0.2, drill.seconds / 2))
        everyone = family(process)
        process.terminate()
        code = process.wait()
        wait_for_the_end(everyone)
        assert code in (STOPPED, 0), f"{results}: exit code {code}"
        assert drill.finish(results) == 0
        drill.check_the_end(results)
    return f"{number} SIGTERM"


def fill_the_disk(drill):
    """Lets no file grow above some kilobytes, as on a full disk; then there is room again."""
    results = drill.folder / f"{drill.name}-full"

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    assert drill.finish(results, preexec_fn=no_room) == 1
    assert "File too large" in Path(f"{results}.log").read_text()
    assert drill.read_curves(results) == {}
    assert not [path for path in results.rglob("*.partial")]
    assert drill.finish(results) == 0
    drill.check_the_end(results)
    return "1 full disk"


def damages(contents, chance):
    """Returns a file's contents, damaged: what -> contents."""
    flipped = bytearray(contents)
    flipped[chance.randrange(len(contents))] ^= 1 << chance.randrange(8)
    return {
        "empty": b"",
        "cut": contents[: len(contents) // 2],
        "a byte short": contents[:-2],
        "zeros": bytes(len(contents)),
        "a text": b"nothing of the kind\n" * 10,
        "a bit flipped": bytes(flipped),
    }


def damage_files(drill, chance):
    """Damages each kind of file in every way: `status` names it beside the good runs."""
    results = drill.folder / f"{drill.name}-undisturbed"
    store, (first, second) = Store(results), drill.runs
    process = drill.start(part := drill.folder / f"{drill.name}-part")
    checkpoint = Store(part).checkpoint_path(second)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    wait_for_the_end([process])
    files = {store.result_path(first): results}
    if checkpoint.exists():
        files[checkpoint] = part
    named = harmless = 0
    for path, root in files.items():
        whole = path.read_bytes()
        read = Store(root).result if root is results else Store(root).checkpoint_notes
        before = [read(run) for run in drill.runs]
        for what, contents in (pair for _ in range(5) for pair in damages(whole, chance).items()):
            path.write_bytes(contents)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = main(["status", *drill.arguments, "--results", str(root)])
            noticed = code == 1 and str(path) in said.getvalue()
            # Dates of an archive, blanks of a JSON; or a digit: results have no checksum, but git.
            meaningless = (
                what == "a bit flipped"
                and code == 0
                and (path.suffix == ".json" or [read(run) for run in drill.runs] == before)
            )
            assert noticed or meaningless, f"{path}, {what}: not named"
            named, harmless = named + noticed, harmless + meaningless
        path.write_bytes(whole)
    drill.check_the_end(results)
    return f"{named} damaged results and checkpoints named, {harmless} bits without meaning"


def make_images(folder):
    """Makes a folder of small images, noise in four classes."""
    chance = np.random.default_rng(0)
    for split, number in {"train": 20, "validation": 5}.items():
        for label in "abcd":
            below = folder / split / label
            below.mkdir(parents=True)
            for index in range(number):
                pixels = chance.integers(256, size=(9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(below / f"{index}.png")


def drills(options):
    """Runs all drills and prints what was counted."""
    chance = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="drills-"))
    make_images(folder / "images")
    (folder / "pictures.toml").write_text(FOLDER)
    os.chdir(folder)
    protocol = protocol_named("digits", ["steps=80"])
    digits = select_runs(protocol, ["bn-4", "brn-noniid"], [0])
    for name, arguments, runs in (
        ("digits", DIGITS, digits),
        ("folder", ["--protocol", "pictures.toml"], select_runs("pictures.toml")),
    ):
        drill = Drill(name, arguments, runs, folder)
        print(f"{name}: undisturbed in {drill.seconds:.0f} seconds", flush=True)
        for count in (
            lambda d=drill: damage_files(d, chance),
            lambda d=drill: fill_the_disk(d),
            lambda d=drill: terminate(d, options.others, chance),
            lambda d=drill: kill_single_processes(d, options.others, chance),
            lambda d=drill: kill_at_random(d, options.kills // 2, chance),
        ):
            print(f"{name}: {count()}: nothing lost, all curves as undisturbed", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50, help="kill -9, over both runs (50)")
    parser.add_argument("--others", type=int, default=5, help="of other kinds, in each run (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    drills(parser.parse_args())
