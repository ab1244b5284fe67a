"""The arms: ways to normalize and to sample, and the studies that compare them.

The paper's arms are those of its table and figures (Ioffe 2017, section 4). The others answer
questions around it: controls, and how things go with the size of the normalization batch, the
structure of minibatches, the bounds of r and d, and alpha.
"""

import dataclasses
import functools
from dataclasses import dataclass, field

from experiments.grid.normalizations import UNBOUNDED, Bounds, Normalization


@dataclass(frozen=True)
class Arm:
    """A way to normalize and to sample.

    Attributes:
        name: as in run ids and in `results/paper.csv`.
        normalization: how its network normalizes.
        sampling: "iid", or one of `sampling.ARRANGEMENTS` for class-structured minibatches:
            "adjacent", "apart" (halves) or "shuffled" over the step's minibatches.
        section, figure: where in the paper; "" and `None` for arms that are not in it.
        label: name in legends.
        minibatch_statistics: whether to evaluate with minibatch statistics on structured
            validation minibatches, too.
        changes: settings of the protocol that this arm changes: name -> value.
        measurements: what studies measure in addition, as their instruments call it:
            "norms", "statistics" and "minibatches" of `studies.inference`.
    """

    name: str
    normalization: Normalization
    sampling: str
    section: str
    figure: int | None
    label: str
    minibatch_statistics: bool = False
    changes: dict = field(default_factory=dict, hash=False)
    measurements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """Arms that are compared, and the seeds each of them is trained with.

    Attributes:
        name, title: for the command line and for headings.
        arms: the arms, in the order of tables.
        seeds: of the runs that are reported.
    """

    name: str
    title: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]


_bn, _brn = (functools.partial(Normalization, kind) for kind in ("bn", "brn"))

PAPER = (
    Arm("bn-32", _bn(32), "iid", "4.1", 1, "BN, i.i.d. minibatches of 32"),
    Arm("brn-32", _brn(32), "iid", "4.1", 1, "BRN, i.i.d. minibatches of 32"),
    Arm("bn-4", _bn(4), "iid", "4.2", 2, "BN, microbatches of 4"),
    Arm("brn-4", _brn(4), "iid", "4.2", 2, "BRN, microbatches of 4"),
    Arm("bn-noniid", _bn(32), "adjacent", "4.3", 3, "BN, non-i.i.d.", minibatch_statistics=True),
    Arm("bn-halves", _bn(16), "apart", "4.3", 3, "BN, non-i.i.d., normalized in halves"),
    Arm("brn-noniid", _brn(32), "adjacent", "4.3", 3, "BRN, non-i.i.d."),
)
"""The training runs of the paper; one of them is evaluated in three ways."""

_BY_NAME = {arm.name: arm for arm in PAPER}


def _control(arm):
    """The same images as an arm's, shuffled over the step's minibatches before normalization."""
    return dataclasses.replace(
        _BY_NAME[arm],
        name=arm.replace("noniid", "shuffled"),
        sampling="shuffled",
        section="",
        figure=None,
        label=f"{_BY_NAME[arm].label}, images shuffled over the step",
        minibatch_statistics=False,
    )


CONTROLS = (_control("bn-noniid"), _control("brn-noniid"))
"""What a step of class-structured minibatches costs without structure in the normalization."""

_BY_NAME |= {arm.name: arm for arm in CONTROLS}


TRAINED_LONGER = (
    _BY_NAME["bn-noniid"],
    CONTROLS[0],
    *(_BY_NAME[name] for name in ("brn-noniid", "bn-32", "bn-halves")),
)
"""What tells whether non-i.i.d. minibatches harm batch normalization late in training."""


LATE = tuple(_BY_NAME[name] for name in ("bn-noniid", "bn-shuffled", "brn-noniid", "bn-halves"))
"""What tells whether averages and minibatch statistics change places late in training."""


NONIID = tuple(arm for arm in _BY_NAME.values() if arm.sampling != "iid")
"""The arms of figure 3, and their controls."""


WITH_IID = (*NONIID, _BY_NAME["bn-32"], _BY_NAME["brn-32"])
"""The same, beside i.i.d. minibatches of the same size."""


def at_depth(depth: int, width: int) -> tuple[Arm, ...]:
    """Returns the non-i.i.d. arms and their controls in a network of another depth.

    Args:
        depth: normalization layers, `<arm>-depth<depth>`.
        width: channels of the layers on one position, which keep the number of weights.
    """
    return tuple(
        dataclasses.replace(
            arm,
            name=f"{arm.name}-depth{depth}",
            label=f"{arm.label}, {depth} layers",
            section="",
            figure=None,
            minibatch_statistics=False,
            changes={"depth": depth, "deep_width": width},
        )
        for arm in NONIID
        if arm.sampling != "apart"
    )


DEPTHS = sum(map(at_depth, (4, 8, 16, 32), (190, 136, 100, 74)), ())
"""With 16 channels in the first layer and 400 classes all four have 132,000 weights, within 1 %."""

DIGITS_DEPTHS = sum(map(at_depth, (5, 9, 13, 17), (110, 96, 86, 80)), ())
"""The same on numbers of three digits: 173,000 weights, within 1 %."""


CHAIN_DEPTHS = sum(map(at_depth, (5, 8, 11, 14), (652, 382, 300, 256)), ())
"""The same in a chain on 400 characters: 835,000 weights, within 1 %."""

CHAIN_ENDS = tuple(
    arm
    for arm in CHAIN_DEPTHS
    if arm.changes["depth"] == 14 or (arm.changes["depth"] == 5 and arm.normalization.kind == "bn")
)
"""The deepest of them, and batch normalization in the shallowest."""


def structured(arm: Arm, labels: int, images: int) -> Arm:
    """Returns a non-i.i.d. arm with minibatches of `labels` x `images`, `<arm>-<labels>x<images>`.

    Its structured validation minibatches hold as many images a label, about 50 together.
    """
    return dataclasses.replace(
        arm,
        name=f"{arm.name}-{labels}x{images}",
        label=f"{arm.label}, {labels} x {images}",
        changes={
            "labels_per_minibatch": labels,
            "images_per_label": images,
            "test_labels_per_minibatch": round(50 / images),
        },
    )


STRONGLY_STRUCTURED = tuple(structured(arm, 4, 8) for arm in NONIID)
"""The non-i.i.d. arms with few labels and many images of each: here halves hold all labels."""


def _other(name, base, label, changes=(), measurements=(), **normalization):
    """An arm of no figure of the paper: `base`, but for these settings and its normalization's."""
    base = _BY_NAME[base]
    return dataclasses.replace(
        base,
        name=name,
        label=label,
        section="",
        figure=None,
        minibatch_statistics=False,
        normalization=dataclasses.replace(base.normalization, **normalization),
        changes=dict(changes),
        measurements=measurements,
    )


GROUP_SIZES = (
    *(_BY_NAME[name] for name in ("bn-4", "brn-4", "bn-32", "brn-32")),
    *(
        _other(f"{kind}-{size}", f"{kind}-32", f"{kind.upper()}, groups of {size}", group=size)
        for size in (2, 8, 16)
        for kind in ("bn", "brn")
    ),
    _other("gn", "bn-32", "group normalization", kind="gn"),
)
"""Group normalization normalizes each example by itself: the size of a group of examples is
nothing to it."""

DEGREES = (
    *(_BY_NAME[name] for name in ("bn-noniid", "brn-noniid")),
    *(arm for arm in STRONGLY_STRUCTURED if "noniid" in arm.name),
    *(
        structured(_other(name, name, f"{name[:-7].upper()}, non-i.i.d."), labels, images)
        for labels, images in ((32, 1), (8, 4), (2, 16))
        for name in ("bn-noniid", "brn-noniid")
    ),
)

HALVES = (
    _other("bn-shuffled-16", "bn-shuffled", "BN, images shuffled over the step, by 16", group=16),
)
"""What normalizing by 16 costs without structure in them: beside `bn-halves`, which has less."""

NONIID_ALPHAS = (
    *(_BY_NAME[name] for name in ("bn-noniid", "brn-noniid")),
    *(
        _other(
            f"{kind}-noniid-alpha-0.01",
            f"{kind}-noniid",
            f"{kind.upper()}, non-i.i.d., alpha 0.01",
            changes={"alpha": 0.01},
        )
        for kind in ("bn", "brn")
    ),
)

BOUNDS = (
    _BY_NAME["brn-4"],
    _other("brn-4-full", "brn-4", "BRN, 4, bounds 3 and 5 from the start", bounds=Bounds(3, 5)),
    _other("brn-4-narrow", "brn-4", "BRN, 4, bounds 1.5 and 0.5", bounds=Bounds(1.5, 0.5)),
    _other("brn-4-unclipped", "brn-4", "BRN, 4, unclipped", bounds=UNBOUNDED),
)


def synchronized() -> Arm:
    """Returns the arm of batch normalization over all examples of a step, i.i.d. minibatches.

    What other engines call synchronized batch normalization: what one may have meant who says
    that several devices normalize "as one would".
    """
    return _other("bn-synchronized", "bn-32", "BN, synchronized over the workers", group=None)


def fast(learning_rate: float) -> tuple[Arm, ...]:
    """Returns arms for claim C11, at a high learning rate: the ramps, and full bounds at once."""
    changes = {"learning_rate": learning_rate}
    return (
        _other("brn-32-fast", "brn-32", "BRN, 32, high learning rate", changes=changes),
        _other(
            "brn-32-fast-full",
            "brn-32",
            "BRN, 32, high learning rate, bounds 3 and 5 from the start",
            bounds=Bounds(3, 5),
            changes=changes,
        ),
    )


ALPHAS = (
    *(_BY_NAME[name] for name in ("bn-4", "brn-4")),
    *(
        _other(
            f"{kind}-4-alpha-{alpha:g}",
            f"{kind}-4",
            f"{kind.upper()}, 4, alpha {alpha:g}",
            changes={"alpha": alpha},
        )
        for alpha in (0.01, 0.001)
        for kind in ("bn", "brn")
    ),
)


def test_time(learning_rate: float) -> tuple[Arm, ...]:
    """Returns the arms of the study of test-time statistics.

    Args:
        learning_rate: the protocol's; two arms train at a quarter and at four times it.
    """
    everything = ("norms", "statistics", "minibatches")

    def arm(name, base, label, measurements=("statistics",), **changes):
        return _other(name, base, label, measurements=measurements, **changes)

    def rate(factor):
        return {"learning_rate": factor * learning_rate}

    return (
        arm("bn-32", "bn-32", "BN, minibatches of 32", everything),
        arm("brn-32", "brn-32", "BRN, minibatches of 32", everything),
        arm("bn-4", "bn-4", "BN, microbatches of 4", everything),
        arm("bn-32-slow", "bn-32", "BN, a quarter of the learning rate", changes=rate(0.25)),
        arm("bn-32-fast", "bn-32", "BN, four times the learning rate", changes=rate(4)),
        *(
            arm(
                f"{name}-32{ending}",
                "brn-32",
                f"{label}{words}",
                ("norms",),
                kind=kind,
                bounds=bounds,
            )
            for ending, words, bounds in (
                ("", " after a tenth of the run", Bounds(none_after=0.1)),
                ("-cold", " from the first step", UNBOUNDED),
            )
            for name, kind, label in (
                ("constants", "constants", "averages as constants"),
                ("unclipped", "brn", "BRN without bounds"),
            )
        ),
    )
