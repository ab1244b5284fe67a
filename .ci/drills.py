"""Provokes the faults that a run can meet, and counts what was lost: nothing should be.

    python .ci/drills.py [--of digits folder] [--drills NAME ...] [--kills 50] [--seed 0]

Over a run of digits and one of a folder of images: every kind of file that is read, damaged in
every way; a disk that takes no more; SIGTERM; kills of single processes; and kill -9 at random
moments, of the command alone and of all its processes. After each, no process is left and every
file is whole or named; at the end each learning curve is the one of a run that nobody disturbed.
What was counted goes into `results/drills.csv`, a row a drill, as soon as it is known. All of it
takes some forty minutes on two cores; drills can also be done one by one.
"""

import argparse
import contextlib
import io
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import files
from experiments.__main__ import main
from experiments.grid.runs import protocol_named, select_runs
from experiments.records.store import Store
from experiments.training.workers import STOP_SECONDS, STOPPED

COUNTS = Path(__file__).parents[1] / "results" / "drills.csv"
END_SECONDS = STOP_SECONDS + 15
"""So soon every process must have ended: a command waits `STOP_SECONDS` for those that it has
told to, which cannot hear it while they compile, and kills them then. The slowest end is in the
table."""
COMPILED_ONCE = {
    "JAX_COMPILATION_CACHE_DIR": "compiled",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
}
"""So that the faults meet training more often than the compiler."""
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
PREPARE = ["prepare", "--dataset", "folder:images", "--image-size", "8", "--data-dir", "data"]


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
        for self.undisturbed in (folder / f"{name}-first", folder / f"{name}-undisturbed"):
            started = time.monotonic()
            assert self.finish(self.undisturbed) == 0, f"{name}: the undisturbed run failed"
            self.seconds = time.monotonic() - started  # without compiling
        self.begin()
        self.curves = self.read_curves(self.undisturbed)
        self.compare(folder / f"{name}-first")
        environment = Store(self.undisturbed).result(runs[0])["environment"]
        self.made_with = "Keras {keras} on {backend} {backend_version}, Python {python}".format(
            **environment
        )

    def begin(self):
        """Begins to count: what was compared and lost, and the slowest end of a process."""
        self.counts, self.slowest = Counter(), 0.0

    def start(self, results, **options):
        """Starts the command in a group of its own; what it says goes into a log."""
        command = [sys.executable, "-m", "experiments", "run", *self.arguments]
        command += ["--results", str(results), "--data-dir", "data", "--jobs", "2"]
        command += ["--checkpoint-minutes", "0.01"]
        log = open(f"{results}.log", "a")  # noqa: SIM115  (the process keeps it)
        options.update(cwd=self.folder, stderr=log, stdout=log, process_group=0)
        return psutil.Popen(command, env=os.environ | COMPILED_ONCE, **options)

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

    def compare(self, results):
        """Counts which curves are those of the undisturbed runs, and which are lost."""
        found = self.read_curves(results)
        for name, curve in self.curves.items():
            same = found.get(name) == curve
            self.counts["curves" if same else "lost"] += 1
            if not same:
                print(f"{results}: {name} is lost, see the folder's .log", flush=True)

    def complete(self, results):
        """Goes on to the end, and compares."""
        code = self.finish(results)
        assert code == 0, f"{results}: exit code {code} of the command that goes on, see its .log"
        self.compare(results)

    def wait_for_the_end(self, processes):
        """Waits until processes have ended; they must within `END_SECONDS`."""
        started = time.monotonic()
        _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
        assert not alive, f"{alive} did not end"
        self.slowest = max(self.slowest, time.monotonic() - started)

    def row(self, fault):
        """Returns what was counted since it began."""
        return {
            "run": self.name,
            "fault": fault,
            "times": self.counts["times"],
            "named": self.counts["named"],
            "curves as undisturbed": self.counts["curves"],
            "curves lost": self.counts["lost"],
            "slowest end, s": round(self.slowest, 1),
            "made with": self.made_with,
        }


def family(process):
    """Returns a command's processes, itself first."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def workers(process):
    """Returns the processes that train."""
    found = []
    for one in family(process)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(one.cmdline()):
                found.append(one)
    return found


def wait_for_workers(process, number):
    """Waits until processes train, or the command has ended."""
    while process.poll() is None and len(workers(process)) < number:
        time.sleep(0.05)


def kill_at_random(drill, number, chance):
    """Kill -9 at random moments."""
    results, folders = None, itertools.count()
    while drill.counts["times"] < number:
        if results is None:  # a new one: a command with nothing left to do is no run to be killed
            results = drill.folder / f"{drill.name}-killed-{next(folders)}"
        process = drill.start(results)
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(timeout=chance.uniform(0, drill.seconds))
        everyone = family(process)
        if process.poll() is not None:
            drill.compare(results)
            results = None
            continue
        for one in everyone if chance.random() < 0.5 else everyone[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        drill.wait_for_the_end(everyone)
        drill.read_curves(results)
        drill.counts["times"] += 1
    if results is not None:
        drill.complete(results)


def kill_single_processes(drill, number, chance):
    """Kill -9 of one of two processes that train."""
    folders = itertools.count()
    while drill.counts["times"] < number:  # a kill of one that had nothing left to do is none
        results = drill.folder / f"{drill.name}-worker-{next(folders)}"
        process = drill.start(results)
        wait_for_workers(process, 2)
        time.sleep(chance.uniform(0, drill.seconds / 3))
        victims = workers(process)
        if victims:
            chance.choice(victims).kill()
        code = process.wait()
        named = "died (SIGKILL" in Path(f"{results}.log").read_text()
        assert code == int(named), f"{results}: exit code {code}"
        assert len(drill.read_curves(results)) >= len(drill.runs) - named, results
        drill.complete(results)
        drill.counts.update(times=named, named=named)


def terminate(drill, number, chance):
    """SIGTERM."""
    while drill.counts["times"] < number:
        results = drill.folder / f"{drill.name}-terminated-{drill.counts['times']}"
        process = drill.start(results)
        wait_for_workers(process, 1)
        time.sleep(chance.uniform(0.2, drill.seconds / 2))
        everyone = family(process)
        sent = process.poll() is None
        if sent:
            process.terminate()
        drill.wait_for_the_end(everyone or [process])
        code = process.wait()
        assert code in (STOPPED, 0), f"{results}: exit code {code}"
        drill.complete(results)
        drill.counts.update(times=sent, named=code == STOPPED)


def fill_the_disk(drill, number, chance):
    """A disk that takes no more than 20 kB a file."""
    results = drill.folder / f"{drill.name}-full"

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    code = drill.finish(results, preexec_fn=no_room)
    assert code == 1, f"{results}: exit code {code}"
    named = "File too large" in Path(f"{results}.log").read_text()
    assert drill.read_curves(results) == {}
    assert not [path for path in results.rglob("*.partial")]
    drill.complete(results)
    drill.counts.update(times=1, named=named)


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


def _command(*arguments):
    """Returns the exit code of a command in this process, and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(map(str, arguments)))
    return code, said.getvalue()


def damage_results_and_checkpoints(drill, number, chance):
    """Results and checkpoints damaged, each in six ways, bits five times."""
    store, (first, second) = Store(drill.undisturbed), drill.runs
    process = drill.start(part := drill.folder / f"{drill.name}-part")
    checkpoint = Store(part).checkpoint_path(second)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    everyone = family(process)
    process.kill()
    drill.wait_for_the_end(everyone)
    assert checkpoint.exists(), "the run was faster than this drill: no checkpoint to damage"
    for path, root in ((store.result_path(first), store.root), (checkpoint, part)):
        whole = path.read_bytes()
        read = Store(root).result if root == store.root else Store(root).checkpoint_notes
        before = [read(run) for run in drill.runs]
        every = [*damages(whole, chance).items()]
        for what, contents in (*every, *(damages(whole, chance).popitem() for _ in range(4))):
            path.write_bytes(contents)
            code, said = _command("status", *drill.arguments, "--results", root)
            named = code == 1 and str(path) in said
            # Dates of an archive, blanks of a JSON; or a digit: results have no checksum, but git.
            meaningless = (
                what == "a bit flipped"
                and code == 0
                and (path.suffix == ".json" or [read(run) for run in drill.runs] == before)
            )
            assert named or meaningless, f"{path}, {what}: not named"
            drill.counts.update(times=not meaningless, named=named)
        path.write_bytes(whole)
    drill.compare(drill.undisturbed)
    drill.complete(part)


def damage_protocol_and_data(drill, number, chance):
    """The kept protocol and the prepared images damaged, each in five ways."""
    if drill.name != "folder":
        return
    protocol = Store(drill.undisturbed).protocol_file("pictures")
    status = ("status", "--protocol", "pictures", "--results", drill.undisturbed)
    (copy,) = {path.parent for path in Path("data").rglob("source.json")}
    for path in (protocol, *sorted(copy.iterdir())):
        command, place = (status, path) if path == protocol else (PREPARE, copy)
        whole = path.read_bytes()
        for what, contents in damages(whole, chance).items():
            if what != "a bit flipped":  # another protocol, or other pixels, that could be as well
                path.write_bytes(contents)
                code, said = _command(*command)
                assert code == 1, f"{path}, {what}: not noticed"
                assert str(place) in said, f"{path}, {what}: not named"
                drill.counts.update(times=1, named=1)
        path.write_bytes(whole)
        assert _command(*command)[0] == 0
    drill.compare(drill.undisturbed)


DRILLS = {
    "files": damage_results_and_checkpoints,
    "inputs": damage_protocol_and_data,
    "disk": fill_the_disk,
    "terminate": terminate,
    "processes": kill_single_processes,
    "kills": kill_at_random,
}


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


def note(row):
    """Puts a row into the table of counts, in the place of an earlier one of the same drill."""
    files.put_row(COUNTS, row, ("run", "fault"))
    print(", ".join(f"{name}: {value}" for name, value in row.items()), flush=True)


def drills(options):
    """Does the drills and notes what was counted; returns whether nothing was lost."""
    chance, lost = random.Random(options.seed), 0
    folder = Path(tempfile.mkdtemp(prefix="drills-"))
    make_images(folder / "images")
    (folder / "pictures.toml").write_text(FOLDER)
    os.chdir(folder)
    digits = select_runs(protocol_named("digits", ["steps=80"]), ["bn-4", "brn-noniid"], [0])
    pictures = select_runs("pictures.toml")
    for name, arguments, runs in (
        ("digits", DIGITS, digits),
        ("folder", ["--protocol", "pictures.toml"], pictures),
    ):
        if name not in options.of:
            continue
        drill = Drill(name, arguments, runs, folder)
        print(f"{name}: undisturbed in {drill.seconds:.0f} seconds", flush=True)
        for kind in options.drills:
            drill.begin()
            number = options.kills // 2 if kind == "kills" else options.others
            DRILLS[kind](drill, number, chance)
            if drill.counts:
                note(drill.row(DRILLS[kind].__doc__.rstrip(".")))
            lost += drill.counts["lost"]
    os.chdir(COUNTS.parent)
    shutil.rmtree(folder)  # kept, for its logs, when a drill fails
    return not lost


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = {"choices": ("digits", "folder"), "default": ("digits", "folder")}
    parser.add_argument("--of", nargs="+", **names, help="runs (both)")
    parser.add_argument("--drills", nargs="+", choices=DRILLS, default=list(DRILLS), help="(all)")
    parser.add_argument("--kills", type=int, default=50, help="kill -9, over both runs (50)")
    parser.add_argument("--others", type=int, default=3, help="of other kinds, in each run (3)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    sys.exit(0 if drills(parser.parse_args()) else 1)
