"""The layers' speed beside every peer's, on one backend; results in files.

    KERAS_BACKEND=jax python -m experiments benchmark             1 to 4 minutes on two cores
    KERAS_BACKEND=jax python -m experiments benchmark --quick     a trial of the benchmark itself
    KERAS_BACKEND=torch python -m experiments benchmark --gpu     shapes for a GPU, bfloat16 too

Writes, into the folder of results:
    benchmark-<backend>.csv: `backend,mode,shape,what,median_ms,q25_ms,q75_ms,rounds`, times of one
        forward and backward pass, or of one training step
    benchmark-<backend>-ratios.csv: `backend,name,shape,ratio,q25,q75,bar,met`: what was asked of
        the layers. A ratio is taken within each round; its median and quartiles are given. Where
        a layer can run in several modes, each side is in its faster one.
    benchmark-<backend>-environment.json: versions, device, and whether the process kept the memory
        that it freed (`experiments.speed.timing.keep_freed_memory`)
With --gpu, `<backend>` is `<backend>-gpu`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import brn
import files
from experiments.data.augmentation import Augmentation
from experiments.data.pipeline import Minibatches
from experiments.data.sampling import Structured
from experiments.data.splits import DecodedSplit
from experiments.speed import subjects
from experiments.speed.timing import (
    Spread,
    faster,
    keep_freed_memory,
    python_calls,
    take_turns,
)
from experiments.training import models
from experiments.training.environment import environment

SHAPES = ((32, 32, 32, 64), (128, 16, 16, 128), (1024, 512), (8, 56, 56, 64))
GPU_SHAPES = tuple(
    (64, side, side, channels)
    for side, channels in (
        # ResNet-50's, then Inception's.
        (112, 64), (56, 64), (56, 256), (28, 128), (28, 512), (14, 256), (14, 1024), (7, 512),
        (7, 2048), (147, 64), (71, 192), (35, 96), (17, 192), (8, 320),
    )
)  # fmt: skip
TINY = (2, 4)
BATCHES = (4, 16, 64, 256, 512)
"""Sizes of the batch, of 16x16x64 activations, to see how the cost grows."""
CHANNELS = (16, 64, 256, 1024)
"""Numbers of channels, of 32x8x8 activations each."""
SEQUENCES = (64, 50, 128)
"""Examples, time steps, channels: for masks, and for microbatches that do not divide the batch."""
IMAGES, IMAGE_SHAPE, CLASSES = 64, (32, 32, 3), 100
"""The training step: images of a batch, their shape, classes."""

TIMES = ("backend", "mode", "shape", "what", "median_ms", "q25_ms", "q75_ms", "rounds")
RATIOS = ("backend", "name", "shape", "ratio", "q25", "q75", "bar", "met")


WINS = 1 / 1.2
"""What a kernel made for a backend is to take of the time of the plain functions, on some shape."""


@dataclass(frozen=True)
class Bar:
    """What is asked of a ratio of times.

    Attributes:
        name: in tables.
        of, over: what is divided by what, names of subjects.
        bar: the ratio is to be at most this.
        mode: the mode of both, instead of the faster one of each.
        on_dense: the bar for activations of rank 2, where it is another one.
    """

    name: str
    of: str
    over: str
    bar: float
    mode: str | None = None
    on_dense: float | None = None


BARS = {
    "tensorflow": (
        Bar("BRN / fused BN of tf_keras, without XLA", "brn", "tf_keras bn", 1.3, "graph"),
        Bar("BRN / renorm of Keras", "brn", "Keras renorm", 0.6),
    ),
    "jax": (
        Bar("BRN / BN of Keras", "brn", "Keras bn", 1.0),
        Bar("BRN / renorm of Keras", "brn", "Keras renorm", 1.0),
    ),
    "torch": (
        Bar("BRN / torch.nn.BatchNorm2d", "brn", "torch.nn.BatchNorm2d", 1.45, on_dense=2.1),
        Bar("BRN / renorm of Keras", "brn", "Keras renorm", 0.6),
    ),
}
BARS_EVERYWHERE = (
    Bar("BN / BN of Keras", "bn", "Keras bn", 1.0),
    Bar("microbatches of 4 / one group", "brn, microbatches of 4", "brn", 1.2),
    Bar("BRN / BRN by the plain functions", "brn", "brn, plain", WINS),
    Bar(
        "microbatches of 4 / the same by the plain functions",
        "brn, microbatches of 4",
        "brn, microbatches of 4, plain",
        WINS,
    ),
)
STEP_BARS = (
    Bar("training step, BRN / BN", "step, brn", "step, bn", 1.03),
    Bar(
        "training step, BRN / BN of Keras",
        "step, brn",
        "step, Keras bn",
        0.95 if keras.config.backend() == "torch" else 1.0,
    ),
    Bar("training step, BN / BN of Keras", "step, bn", "step, Keras bn", 1.0),
)
SEQUENCE_BARS = (
    Bar("masked, BRN / BN of Keras", "brn, masked", "Keras bn, masked", 1.2),
    Bar("masked, BN / BN of Keras", "bn, masked", "Keras bn, masked", 1.2),
    Bar(
        "microbatches, a smaller last one / divided",
        "microbatches, and a smaller last one",
        "microbatches, divided",
        2.0,
    ),
)
HELD_BAR = 1.1
PIPELINE_BAR = 10.0


class Results:
    """The rows of both tables."""

    def __init__(self, backend: str, keeps_freed_memory: bool = False):
        self.backend, self.keeps_freed_memory = backend, keeps_freed_memory
        self.times, self.ratios = [], []

    def add_times(self, shape: str, times: dict[tuple[str, str], np.ndarray]) -> None:
        """Adds times in seconds, by name and mode."""
        for (what, mode), seconds in times.items():
            spread = Spread.of(1e3 * seconds)
            numbers = [f"{v:.4g}" for v in (spread.median, spread.q25, spread.q75)]
            self.times.append([self.backend, mode, shape, what, *numbers, len(seconds)])
            print(f"{shape:16} {what:24} {mode:14} {spread.median:9.3f} ms", flush=True)

    def add_ratios(self, shape: str, times: dict, bars: tuple[Bar, ...]) -> None:
        """Adds the ratios whose two sides were timed, each in its faster mode."""
        for bar in bars:
            sides = [
                [key for key in times if key[0] == what and bar.mode in (None, key[1])]
                for what in (bar.of, bar.over)
            ]
            if all(sides):
                of, over = (times[faster(times, keys)] for keys in sides)
                dense = bar.on_dense is not None and shape.split()[0].count("x") == 1
                limit = bar.on_dense if dense else bar.bar
                self.add_ratio(bar.name, shape, Spread.of(of / over), limit)

    def add_ratio(self, name, shape, spread: Spread, bar: float, at_least: bool = False) -> None:
        """Adds one row; `at_least` says that more is better."""
        met = spread.median >= bar if at_least else spread.median <= bar
        numbers = [f"{v:.4g}" for v in (spread.median, spread.q25, spread.q75, bar)]
        self.ratios.append([self.backend, name, shape, *numbers, "yes" if met else "no"])
        print(f"{shape:16} {name}: {numbers[0]} (bar {numbers[3]})", flush=True)

    def write(self, folder: str | Path) -> None:
        """Writes the three files."""
        stem = Path(folder) / f"benchmark-{self.backend}"
        files.write_csv(f"{stem}.csv", pd.DataFrame(self.times, columns=TIMES))
        files.write_csv(f"{stem}-ratios.csv", pd.DataFrame(self.ratios, columns=RATIOS))
        made = {**environment(), "keeps_freed_memory": self.keeps_freed_memory}
        files.write(f"{stem}-environment.json", json.dumps(made, indent=2) + "\n")


def time_layers(
    results: Results, shapes, dtype: str, rounds: int, microbatches: bool = False
) -> None:
    """Times all layers and peers on activations of these shapes."""
    for shape in shapes:
        name = _name(shape) if dtype == "float32" else f"{_name(shape)} {dtype}"
        microbatched = microbatches or shape[0] == 128
        times = take_turns(subjects.subjects(shape, dtype, microbatched), rounds)
        results.add_times(name, times)
        bars = BARS[keras.config.backend()] + BARS_EVERYWHERE
        results.add_ratios(name, times, bars)


def count_calls(results: Results, shape) -> None:
    """Counts the calls of Python of a pass: where nothing is compiled, that is what it costs."""
    passes = subjects.few(shape)
    calls = {what: python_calls(function) for (what, _), function in passes.items()}
    for name, what in (("BRN", "brn"), ("BN", "bn")):
        ratio = Spread.of([calls[what] / calls["Keras bn"]])
        results.add_ratio(f"calls of Python, {name} / BN of Keras", _name(shape), ratio, 1.0)


def time_parts(results: Results, shape, rounds: int) -> None:
    """Times what our passes are made of, for one group and for microbatches of 4."""
    passes = subjects.parts(shape) | subjects.parts(shape, microbatch_size=4)
    results.add_times(f"parts of {_name(shape)}", take_turns(passes, rounds))


def time_growth(results: Results, batches, channels, rounds: int) -> None:
    """Times our layers and Keras's with growing batches, then with growing numbers of channels."""
    shapes = [(batch, 16, 16, 64) for batch in batches] + [(32, 8, 8, c) for c in channels]
    for shape in shapes:
        results.add_times(_name(shape), take_turns(subjects.few(shape), rounds))


def time_sequences(results: Results, shape, rounds: int) -> None:
    """Times masks, and microbatches of which the last one is smaller."""
    times = take_turns(subjects.masked(shape) | subjects.divided(shape), rounds)
    results.add_times(_name(shape), times)
    results.add_ratios(_name(shape), times, SEQUENCE_BARS)


def time_steps(
    results: Results, rounds: int, network: str, images: int, image_shape, **size
) -> float:
    """Times training steps of a network; returns images a second with our BRN."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(images, *image_shape)).astype("float32")
    y = rng.integers(CLASSES, size=images)
    makers = {
        "step, brn": brn.BatchRenormalization,
        "step, bn": brn.BatchNormalization,
        "step, Keras bn": keras.layers.BatchNormalization,
    }
    functions = {}
    for what, make in makers.items():
        model = _network(network, image_shape, make, **size)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.01), loss)
        functions[what, network] = lambda model=model: model.train_on_batch(x, y)
    times = take_turns(functions, rounds)
    shape = _name((images, *image_shape))
    results.add_times(shape, times)
    results.add_ratios(shape, times, STEP_BARS)
    return images / float(np.median(times["step, brn", network]))


def _network(network, image_shape, make, **size):
    if network != "resnet50":
        return models.build(network, image_shape, CLASSES, lambda: make(scale=False), **size)
    resnet = keras.applications.ResNet50(
        weights=None, input_shape=image_shape, classes=CLASSES, classifier_activation=None
    )
    return models.with_normalization(resnet, make)


def time_pipeline(results: Results, consumed: float, rounds: int) -> None:
    """Times the class-structured input pipeline by itself, against images a second consumed."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(50 * CLASSES, *IMAGE_SHAPE), dtype=np.uint8)
    split = DecodedSplit(np.repeat(np.arange(CLASSES), 50), images)
    minibatches = Minibatches(
        split,
        Structured(split.labels, workers=IMAGES // 32),
        Augmentation(flip=True, shift=4),
        total_steps=8,
    )

    def all_steps():
        for step in range(len(minibatches)):
            minibatches[step]

    key = ("pipeline, class-structured, 8 steps", "numpy")
    times = take_turns({key: all_steps}, rounds)
    results.add_times(_name((IMAGES, *IMAGE_SHAPE)), times)
    produced = Spread.of(8 * IMAGES / times[key] / consumed)
    name = "images a second, input pipeline / training"
    results.add_ratio(name, _name((IMAGES, *IMAGE_SHAPE)), produced, PIPELINE_BAR, at_least=True)


def measure_memory(results: Results, shape) -> None:
    """Measures what our layers hold for the backward pass."""
    for name, layer in (
        ("BRN", brn.BatchRenormalization()),
        ("BRN, microbatches of 4", brn.BatchRenormalization(microbatch_size=4)),
        ("BN", brn.BatchNormalization()),
    ):
        held = Spread.of([subjects.held_for_backward(layer, shape)])
        results.add_ratio(
            f"held for the backward pass / input, {name}", _name(shape), held, HELD_BAR
        )


def _name(shape):
    return "x".join(map(str, shape))


def run(folder: str | Path, rounds: int = 31, quick: bool = False, gpu: bool = False) -> None:
    """Runs the benchmark on the backend of this process and writes its files.

    Args:
        folder: the folder of results.
        rounds: how many times are taken of each.
        quick: whether to try the benchmark itself, with two rounds of small shapes.
        gpu: whether to take the shapes of ResNet-50 and Inception, with microbatches on all of
            them, and bfloat16 too; and ResNet-50's training step.
    """
    backend = keras.config.backend()
    results = Results(f"{backend}-gpu" if gpu else backend, keep_freed_memory())
    if quick:
        time_layers(results, [(4, 2, 2, 3)], "float32", 2)
        time_layers(results, [(128, 3)], "bfloat16" if gpu else "float32", 2)
        time_parts(results, (8, 2, 2, 3), 2)
        time_growth(results, [], [3], 2)
        time_sequences(results, (8, 2, 3), 2)
        consumed = time_steps(results, 2, "inception_small", 4, (8, 8, 1), width=2, modules=1)
        time_pipeline(results, consumed, 2)
        measure_memory(results, (16, 16, 16, 3))
    else:
        for dtype in ("float32", "bfloat16") if gpu else ("float32",):
            time_layers(results, GPU_SHAPES if gpu else SHAPES, dtype, rounds, microbatches=gpu)
        # Next to nothing to compute: what a call costs by itself.
        results.add_times(_name(TINY), take_turns(subjects.subjects(TINY), rounds))
        time_parts(results, SHAPES[1], rounds)
        time_growth(results, BATCHES, CHANNELS, rounds)
        time_sequences(results, SEQUENCES, rounds)
        consumed = time_steps(results, rounds, "inception_small", IMAGES, IMAGE_SHAPE)
        if gpu:
            time_steps(results, rounds, "resnet50", 64, (224, 224, 3))
        time_pipeline(results, consumed, rounds)
        measure_memory(results, SHAPES[0])
    if backend == "torch":
        count_calls(results, TINY)
    results.write(folder)
