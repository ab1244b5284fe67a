"""What the study of test-time statistics found: values of its measures, and tables of them."""

import numpy as np
import pandas as pd

from paper_figures.claims.numbers import finals
from paper_figures.exhibit import Part
from paper_figures.load import Protocol
from paper_figures.statistics import geometric_interval, mean_interval, paired_difference
from paper_figures.words import show

TRAINED = ("bn-32", "brn-32", "bn-4")
RATES = ("bn-32-slow", "bn-32", "bn-32-fast")
WAYS = (
    "constants-32",
    "unclipped-32",
    "brn-32",
    "bn-32",
    "constants-32-cold",
    "unclipped-32-cold",
)
LETTERS = {"constants-32": "a", "unclipped-32": "b", "brn-32": "c", "bn-32": "d"}
RUNNING, MINIBATCH = "accuracy_running_percent", "accuracy_minibatch_percent"
POPULATION, TEST_SET = "accuracy_population_percent", "accuracy_test_set_percent"
NOISE_MINIBATCHES = 32
"""Whose mean statistics are compared with the population's, the weights held still."""
WARM_UP = 0.1  # of the run: batch normalization in the first four ways


def final(protocol: Protocol, arm: str, measure: str, where: str = "", at: str = "") -> pd.Series:
    """Return a measure's value at the last step, by seed; diverged runs have none."""
    return at_step(protocol.values(arm, measure, where, at), protocol.total_steps)


def by_number(protocol: Protocol, arm: str, measure: str, where: str) -> dict[float, pd.DataFrame]:
    """Return the values of a measure of an arm by the number of the place, ascending."""
    places = {float(at): rows for at, rows in protocol.places(arm, measure, where).items()}
    return dict(sorted(places.items()))


def total_norm(protocol: Protocol, arm: str) -> pd.DataFrame:
    """Return the norm of all weights, as `Protocol.values` does: root of the sum of squares."""
    rows = pd.concat(protocol.places(arm, "weight_norm", "layer").values())
    squares = rows.assign(value=rows["value"] ** 2)
    sums = squares.groupby(["seed", "status", "step"], as_index=False)["value"].sum()
    return sums.assign(value=np.sqrt(sums["value"]))


def growth(protocol: Protocol, values: pd.DataFrame) -> pd.Series:
    """Return, by seed, the last value over that at the end of the warm-up."""
    start = values[values["step"] == round(WARM_UP * protocol.total_steps)].set_index("seed")[
        "value"
    ]
    last = values.sort_values("step").groupby("seed")["value"].last()
    return last / start


def middle_step(protocol: Protocol) -> int:
    """Return the step nearest the middle of the run at which statistics were compared."""
    steps = protocol.values("bn-32", "minibatch_mean_noise")["step"].unique()
    return int(min(steps, key=lambda step: (abs(step - protocol.total_steps / 2), step)))


def at_step(values: pd.DataFrame, step: int) -> pd.Series:
    """Return the values at a step, by seed."""
    return values[values["step"] == step].set_index("seed")["value"]


def noise_factor(alpha: float) -> float:
    """Return the standard deviation of a running average of independent values, over theirs."""
    return np.sqrt(alpha / (2 - alpha))


def rate_of(protocol: Protocol, arm: str) -> str:
    """Say with which learning rate an arm trains."""
    factor = protocol.setting(arm, "learning_rate") / protocol.settings["learning_rate"]
    kinds = {0.25: "a quarter of the learning rate", 4: "four times the learning rate"}
    return kinds.get(round(factor, 3), "the learning rate")


def corruptions(protocol: Protocol) -> list[str]:
    """Name what test images were corrupted by, in the order of measurement."""
    return list(protocol.places("bn-32", "accuracy_minibatch_percent", "images"))


# Words


def _value(protocol, arm, place, digits=1):
    """A measure at the end, of `place`: its name and, where it has several, which."""
    return show(mean_interval(final(protocol, arm, *place)), digits)


def _by_arm(protocol, head, rows):
    """A table with a column for each arm of `TRAINED`; rows are `(name, place, digits)`."""
    return pd.DataFrame(
        [
            {head: name, **{arm: _value(protocol, arm, place, digits) for arm in TRAINED}}
            for name, place, digits in rows
        ]
    )


def _gap(protocol, arm, first, second):
    return paired_difference(*(final(protocol, arm, *place) for place in (first, second)))


def find_averages(protocol: Protocol) -> list[Part]:
    """State what averages and minibatches of each size are worth, and what lag and noise are."""
    rows = [
        ("running average", (RUNNING,), 1),
        ("population", (POPULATION,), 1),
        ("all test images", (TEST_SET,), 1),
    ]
    for size in (1, 4, 32, 512):
        images = "test image" if size == 1 else "test images"
        rows.append((f"{size} {images}", ("accuracy_percent", "minibatch", str(size)), 1))
    head = "statistics of"
    enough = {arm: _as_good_from(protocol, arm) for arm in TRAINED}
    last = [
        *(
            {head: f"{words}, paired", **{a: show(_gap(protocol, a, *kinds)) for a in TRAINED}}
            for words, kinds in (
                ("population - running average", ((POPULATION,), (RUNNING,))),
                ("all test images - population", ((TEST_SET,), (POPULATION,))),
            )
        ),
        {head: "not shown to be worse than the running average", **enough},
    ]
    worth = pd.concat([_by_arm(protocol, head, rows), pd.DataFrame(last)], ignore_index=True)
    middle = middle_step(protocol)
    return [
        Part("Accuracy, %, by the statistics that test images are normalized with:", worth),
        Part(
            "Running averages of the same runs, by alpha: the accuracy of bn-32 with them, %, and "
            f"how far they are at step {middle} from the population's mean, in standard "
            "deviations. Slow and fast are a quarter of and four times the learning rate; the last "
            "column would be the distance of bn-32 if there were only noise.",
            _by_alpha(protocol, middle),
        ),
        Part(
            "Distance of the running averages from the population's standard deviation, "
            "`log(stddev / sigma)`, early and at the end, and the alpha with the least:",
            _as_it_settles(protocol),
        ),
        Part(
            "With the weights held still, the distance of the minibatches' mean statistics from "
            "the population's:",
            _still(protocol),
        ),
    ]


def _as_good_from(protocol, arm):
    """Say from which size of the test minibatch on no difference to the running average is < 0."""
    smallest = None
    for size in sorted(
        map(int, protocol.places(arm, "accuracy_percent", "minibatch")), reverse=True
    ):
        place = ("accuracy_percent", "minibatch", str(size))
        if not _gap(protocol, arm, place, (RUNNING,)).high >= 0:
            break
        smallest = size
    return "-" if smallest is None else f"{smallest} and more"


def _by_alpha(protocol, middle):
    """Accuracy and distance of the running averages of `bn-32`, by alpha."""
    distances = {arm: by_number(protocol, arm, "mean_distance", "alpha") for arm in RATES}
    accuracies = by_number(protocol, "bn-32", "accuracy_percent", "alpha")
    noise = at_step(protocol.values("bn-32", "minibatch_mean_noise"), middle).mean()
    return pd.DataFrame(
        [
            {
                "alpha": f"{alpha:g}",
                "accuracy": show(mean_interval(at_step(accuracies[alpha], protocol.total_steps))),
                **{
                    f"distance, {arm}": show(mean_interval(at_step(of[alpha], middle)), 3)
                    for arm, of in distances.items()
                },
                "noise alone": f"{noise * noise_factor(alpha):.3f}",
            }
            for alpha in distances["bn-32"]
        ]
    )


def _as_it_settles(protocol):
    """Distance of the standard deviation by alpha, at the first comparison and the last."""
    first = int(protocol.values("bn-32", "minibatch_mean_noise")["step"].min())
    columns = {}
    for arm in ("bn-32", "bn-4"):
        measures = by_number(protocol, arm, "stddev_distance", "alpha")
        for step in (first, protocol.total_steps):
            found = {a: mean_interval(at_step(rows, step)) for a, rows in measures.items()}
            nearest = min(found, key=lambda alpha: found[alpha].mean)
            columns[f"{arm}, step {step}"] = [*(show(e, 3) for e in found.values()), f"{nearest:g}"]
    return pd.DataFrame({"alpha": [*(f"{alpha:g}" for alpha in measures), "nearest"], **columns})


def _still(protocol):
    """Distance that no momentum removes, and how much of it is noise of the minibatches."""
    arms = ("bn-32", "bn-4")
    noise = {arm: final(protocol, arm, "minibatch_mean_noise") for arm in arms}
    minibatches = np.sqrt(NOISE_MINIBATCHES)
    rows = [
        ("mean", {a: final(protocol, a, "mean_distance_still") for a in arms}),
        ("mean, if it were noise alone", {a: noise[a] / minibatches for a in arms}),
        ("log standard deviation", {a: final(protocol, a, "stddev_distance_still") for a in arms}),
    ]
    return pd.DataFrame(
        [
            {"statistic": name, **{arm: show(mean_interval(v), 3) for arm, v in values.items()}}
            for name, values in rows
        ]
    )


def find_minibatches(protocol: Protocol) -> list[Part]:
    """State how much mates, structure and corruption change."""
    head, sizes = "test minibatch of", (2, 8, 32, 128, 512)
    return [
        Part(
            "How often the same image among other mates gets another prediction, %:",
            _by_arm(
                protocol,
                head,
                [(f"{k} images", ("changes_percent", "minibatch", str(k)), 1) for k in sizes],
            ),
        ),
        Part(
            "How far its logits move, in standard deviations of an image's logits:",
            _by_arm(
                protocol,
                head,
                [(f"{k} images", ("movement", "minibatch", str(k)), 2) for k in sizes],
            ),
        ),
        Part(
            "Accuracy, %, in test minibatches of 16 images of few classes:",
            _by_arm(
                protocol,
                "classes in the minibatch",
                [
                    (f"{k}{name}", (measure, "classes", str(k)), 1)
                    for measure, name in ((MINIBATCH, ""), (RUNNING, ", running average"))
                    for k in (16, 4, 1)
                ],
            ),
        ),
        Part(
            "Corrupted test images: by how many points bn-32 is more accurate with the statistics "
            "of minibatches of 64 than with the running average, and whether they help:",
            _by_corruption(protocol),
        ),
    ]


def _by_corruption(protocol):
    """What minibatch statistics win, and whether the interval is on one side of 0."""
    rows = []
    for name in corruptions(protocol):
        gap = _gap(protocol, "bn-32", *((m, "images", name) for m in (MINIBATCH, RUNNING)))
        verdict = "they help" if gap.low > 0 else "they harm" if gap.high < 0 else "not decided"
        rows.append({"images": name.replace("_", " "), "points": show(gap), "verdict": verdict})
    return pd.DataFrame(rows)


def find_training(protocol: Protocol) -> list[Part]:
    """State what becomes of each way to train; a diverged run has the accuracy of chance."""
    accuracies = {arm: finals(protocol, arm) for arm in WAYS}
    norms = {arm: growth(protocol, total_norm(protocol, arm)) for arm in WAYS}
    rows = []
    for arm in WAYS:
        diverged = len(protocol.diverged(arm))
        rows.append(
            {
                "way": f"{arm} ({LETTERS[arm]})" if arm in LETTERS else arm,
                "loss": show(mean_interval(final(protocol, arm, "training_loss")), 2),
                "accuracy, %": show(mean_interval(accuracies[arm])),
                "accuracy - (d)": "-"
                if arm == "bn-32"
                else show(paired_difference(accuracies[arm], accuracies["bn-32"])),
                "norm of all kernels": show(mean_interval(norms[arm]), 2),
                **({"diverged runs": str(diverged)} if diverged else {}),
            }
        )
    logs = [np.log(norms[arm]) for arm in ("constants-32", "unclipped-32")]
    difference = paired_difference(*logs)
    verdict = "not decided"
    if difference.n > 1:
        verdict = "larger" if difference.low > 0 else "smaller" if difference.high < 0 else verdict
    warm = round(WARM_UP * protocol.total_steps)
    return [
        Part(
            "At the end of training: loss, accuracy with the running average, the same less that "
            "of (d), paired, and the norm of all kernels, as a multiple of that at step "
            f"{warm}:",
            pd.DataFrame(rows).fillna("0"),
        ),
        Part(
            f"Log growth of constants-32 over that of unclipped-32: {show(difference, 2)}, by the "
            f"protocol's criterion {verdict}."
        ),
        Part(
            "The layer with the least and the one with the most, means over seeds: growth of the "
            f"activations before normalization since step {warm}, their root mean square after "
            "normalization with the averages at the end, and the standard deviation of that over "
            "the evaluations of a run's second half:",
            _activations(protocol),
        ),
    ]


def _activations(protocol):
    """Range over layers of the growth before normalization, and of what is left after it."""
    rows = []
    for arm, letter in LETTERS.items():
        before = protocol.places(arm, "activation_rms", "layer").values()
        after = protocol.places(arm, "normalized_rms", "layer").values()
        grown = [geometric_interval(growth(protocol, rows)).mean for rows in before]
        left = [at_step(rows, protocol.total_steps).mean() for rows in after]
        moved = [_fluctuation(rows, protocol.total_steps / 2) for rows in after]
        rows.append(
            {
                "way": f"{arm} ({letter})",
                "growth before": f"{min(grown):.1f} to {max(grown):.1f}",
                "root mean square after": f"{min(left):.2f} to {max(left):.2f}",
                "its fluctuation": f"{min(moved):.2f} to {max(moved):.2f}",
            }
        )
    return pd.DataFrame(rows)


def _fluctuation(values, start):
    """Standard deviation over the steps of a run after `start`, root mean square over seeds."""
    late = values[values["step"] > start]
    return np.sqrt(late.groupby("seed")["value"].var().mean())
