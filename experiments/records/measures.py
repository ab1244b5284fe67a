"""What was measured, and where: the names in run files, taken apart for the table of all runs.

A name such as `accuracy_minibatch_016_percent` says what was measured and at which of several
places. The table has them in columns: `measure` without the place, `where` says what the place is
a value of, and `at` is that value. Names of one place only stay as they are.
"""

import re
from typing import NamedTuple


class Measure(NamedTuple):
    """What was measured, and where: `where` and `at` are empty for the one place there is."""

    measure: str
    where: str = ""
    at: str = ""


_PLACES = {
    "layer": r"(?P<before>.+)_layer_0*(?P<at>\d+)(?P<after>)",
    "alpha": r"(?P<before>.+)_alpha_(?P<at>[\d.]+)(?P<after>(?:_percent)?)",
    "minibatch": r"(?P<before>.+)_minibatch_0*(?P<at>\d+)(?P<after>(?:_percent)?)",
    "classes": r"(?P<before>.+)_classes_0*(?P<at>\d+)(?P<after>_.+)",
    "images": r"(?P<before>accuracy)_(?P<at>clean|mixed|(?:brightness|contrast|noise)_[\d.]+)"
    r"(?P<after>_(?:minibatch|running)_percent)",
}


def parse(name: str) -> Measure:
    """Returns a name in a run file, taken apart.

    Examples:
        `r_clipped_percent_layer_03` -> `r_clipped_percent`, `layer`, `3`
        `accuracy_alpha_0.3_percent` -> `accuracy_percent`, `alpha`, `0.3`
        `changes_minibatch_016_percent` -> `changes_percent`, `minibatch`, `16`
        `accuracy_classes_04_running_percent` -> `accuracy_running_percent`, `classes`, `4`
        `accuracy_noise_0.5_running_percent` -> `accuracy_running_percent`, `images`, `noise_0.5`
        `training_loss` -> `training_loss`
    """
    for where, pattern in _PLACES.items():
        if match := re.fullmatch(pattern, name):
            return Measure(match["before"] + match["after"], where, match["at"])
    return Measure(name)
