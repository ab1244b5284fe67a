"""The benchmark: its arithmetic, and the real `main` with small shapes."""

import csv
import json
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.speed import benchmark, subjects, timing
from experiments.speed.benchmark import Bar, Results
from experiments.speed.timing import Spread
from experiments.training import environment

BACKEND = keras.config.backend()


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


class TestTiming:
    def test_spread(self):
        assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, q25=2.0, q75=4.0)

    def test_functions_take_turns(self):
        """Every round runs every function once; a function's time is what passes while it runs."""
        now, calls = [0.0], []

        def function(name, seconds):
            def run():
                calls.append(name)
                now[0] += seconds

            return run

        functions = {"slow": function("slow", 3.0), "fast": function("fast", 1.0)}
        times = timing.take_turns(functions, 8, warm_up=1, clock=lambda: now[0])
        np.testing.assert_allclose(times["slow"], np.full(8, 3.0))
        np.testing.assert_allclose(times["fast"], np.full(8, 1.0))
        rounds = [tuple(calls[i : i + 2]) for i in range(0, len(calls), 2)]
        assert len(rounds) == 9
        assert set(rounds) == {("slow", "fast"), ("fast", "slow")}

    def test_calls_are_counted(self):
        def function():
            for _ in range(3):
                abs(len([]))

        assert timing.python_calls(function) == 6

    def test_freed_memory_is_kept(self):
        """Where glibc is: what was allocated before and freed takes no new pages."""
        program = """
import resource, numpy as np
from experiments.speed.timing import keep_freed_memory
kept = keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(2**18) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(kept), faults(), faults())
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        kept, _, again = map(int, done.stdout.split())
        assert kept == (platform.libc_ver()[0] == "glibc")
        assert again < 100 or not kept

    def test_the_faster_of_two(self):
        times = {"a": np.array([1.0, 2.0, 90.0]), "b": np.array([3.0, 3.0, 3.0])}
        assert timing.faster(times, ["a", "b"]) == "a"


class TestRatios:
    TIMES = {  # noqa: RUF012
        ("brn", "graph"): np.array([4.0, 2.0, 6.0]),
        ("brn", "xla"): np.array([8.0, 8.0, 8.0]),
        ("peer", "graph"): np.array([9.0, 9.0, 9.0]),
        ("peer", "xla"): np.array([2.0, 4.0, 6.0]),
    }

    @pytest.mark.parametrize(
        ("mode", "bar", "expected"),
        [
            (None, 0.9, ["1", "0.75", "1.5", "0.9", "no"]),
            (None, 1.0, ["1", "0.75", "1.5", "1", "yes"]),
            ("graph", 1.0, ["0.4444", "0.3333", "0.5556", "1", "yes"]),
        ],
    )
    def test_each_side_in_its_faster_mode_and_by_round(self, mode, bar, expected):
        results = Results("any")
        results.add_ratios("8x4", self.TIMES, (Bar("name", "brn", "peer", bar, mode),))
        assert results.ratios == [["any", "name", "8x4", *expected]]

    def test_the_dense_shape_may_have_a_bar_of_its_own(self):
        results = Results("any")
        bar = Bar("name", "brn", "peer", 0.9, "graph", on_dense=0.4)
        for shape in ("8x4", "8x4x4x4", "8x4 bfloat16"):
            results.add_ratios(shape, self.TIMES, (bar,))
        assert [row[-2:] for row in results.ratios] == [
            ["0.4", "no"],
            ["0.9", "yes"],
            ["0.4", "no"],
        ]

    def test_what_was_not_timed_has_no_ratio(self):
        results = Results("any")
        results.add_ratios("8x4", self.TIMES, (Bar("name", "brn", "absent", 1.0),))
        assert results.ratios == []

    @pytest.mark.parametrize(("at_least", "met"), [(False, "no"), (True, "yes")])
    def test_more_can_be_better(self, at_least, met):
        results = Results("any")
        results.add_ratio("name", "8x4", Spread(20.0, 19.0, 21.0), 10.0, at_least)
        assert results.ratios[0][-1] == met


def test_holding_more_is_seen():
    held = subjects.held_for_backward(TwoCopies(), (16, 8, 8, 3))
    assert held >= 2.0


class TwoCopies(keras.layers.Layer):
    """Needs two tensors of the input's size for its gradient."""

    def call(self, x, training=False):
        return keras.ops.sin(keras.ops.sin(x))


def test_no_rounds_are_refused(tmp_path, capsys):
    assert main(["benchmark", "--rounds", "0", "--results", str(tmp_path)]) == 1
    assert "--rounds 0" in capsys.readouterr().err


def test_without_a_gpu_the_benchmark_for_one_says_so_and_ends_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(environment, "gpu", lambda: None)
    assert main(["benchmark", "--gpu", "--results", str(tmp_path)]) == 0
    assert "No GPU is seen by this backend" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gpu", [False, True] if BACKEND == "torch" else [False])
def test_quick_run(tmp_path, monkeypatch, gpu):
    """The one for a GPU computes on what there is, and its tables are those of the other."""
    monkeypatch.setattr(environment, "gpu", lambda: "a device")
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: True)  # not of all further tests
    more = ["--gpu"] if gpu else []
    assert main(["benchmark", "--quick", *more, "--results", str(tmp_path)]) == 0
    name = f"{BACKEND}-gpu" if gpu else BACKEND
    times = read(tmp_path / f"benchmark-{name}.csv")
    ratios = read(tmp_path / f"benchmark-{name}-ratios.csv")
    assert tuple(times[0]) == benchmark.TIMES
    assert tuple(ratios[0]) == benchmark.RATIOS
    for row in times:
        assert 0 < float(row["q25_ms"]) <= float(row["median_ms"]) <= float(row["q75_ms"])
        assert (row["backend"], row["rounds"]) == (name, "2")
    assert gpu == ("128x3 bfloat16" in {row["shape"] for row in times})
    names = {row["name"] for row in ratios}
    bars = (
        *benchmark.BARS[BACKEND],
        *benchmark.BARS_EVERYWHERE,
        *benchmark.STEP_BARS,
    )
    assert {bar.name for bar in bars} < names
    assert any(name.startswith("held for the backward pass") for name in names)
    assert ("calls of Python, BRN / BN of Keras" in names) == (BACKEND == "torch")
    what = {row["what"] for row in times}
    assert {"brn", "bn", "Keras bn", "Keras renorm", "brn, microbatches of 4", "brn, plain"} < what
    peer = {"tensorflow": "tf_keras bn", "torch": "torch.nn.BatchNorm2d", "jax": "Keras bn"}[
        BACKEND
    ]
    assert peer in what
    made = json.loads((tmp_path / f"benchmark-{name}-environment.json").read_text())
    assert (made["backend"], made["device"]) == (BACKEND, "a device")
    assert made["keeps_freed_memory"] is True
    assert len(list(tmp_path.iterdir())) == 3
