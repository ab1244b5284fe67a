"""Several processes that train one run, as tested, and the paper's own scale, as planned.

Reads `processes.csv`, into which the slow tests of `tests/experiments/test_distributed.py` and
`python -m experiments demand` put what they measured.
"""

from collections.abc import Iterator

import pandas as pd

from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.load import Results, ResultsError

PLACE = 9
FILE = "processes.csv"
PLANNED = "imagenet"
"""What the rows of `python -m experiments demand` are of."""
AGAINST_ONE = " against one"
"""How what is compared with one process ends, by arm and number of processes."""

QUANTITIES = {
    "multiply-adds of an image, forward": "macs",
    "parameters": "parameters",
    "steps": "steps",
    "images a step": "images",
    "images evaluated": "evaluated",
    "training images": "training",
    "side of an image": "side",
    "a JPEG of 500x375": "kB",
    "decoding, cutting and resizing an image": "decode_ms",
    "flipping and scaling an image": "scale_ms",
}
"""Names in the file -> short ones."""

DEVICES = (1, 5, 10, 50)
FLOP_S = 50e12
"""Assumed of a device: single precision with TF32, as convolutions on a large GPU may do."""
LINK = 10e9
"""Assumed of the line of a device: bytes a second."""
PRICE = 2.50
"""Assumed of an hour of a device."""
BACKWARD = 3
"""Passes that a pass with its gradient costs."""
COPIES = 4
"""Copies of the weights in a checkpoint: themselves, two of RMSProp, the averages."""


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the tables of what was measured, and the plan, if there is anything."""
    path = results.folder / FILE
    if not path.exists():
        return
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    tables = {"agreement": agreement(rows), "processes": others(rows)}
    if (rows["what"] == PLANNED).any():
        needs = demand(rows)
        tables |= {"demand": show_demand(needs), "plan": plan(needs)}
    section = Section(
        "scale",
        "The paper's own scale",
        introduction="Several processes train one run; the whole of it is planned, not run.",
        environment=tuple(sorted(set(rows["made with"]))),
        page="scale",
    )
    yield Exhibit(
        section,
        "processes",
        "Several processes, one run",
        tables={name: (Part(table=table),) for name, table in tables.items()},
    )


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Show what several processes trained against what one did: a row for each arm and number."""
    found = rows[rows["what"].str.endswith(AGAINST_ONE)]
    what = found["what"].str.removesuffix(AGAINST_ONE)
    found = found.assign(network=what, processes=found["processes"].astype(int))
    table = found.pivot_table(
        index=["network", "arm", "processes"], columns="quantity", values="value", aggfunc="first"
    )
    return table.reset_index().fillna("-").astype(str)


def others(rows: pd.DataFrame) -> pd.DataFrame:
    """Show all other measurements, a row each, as they stand in the file."""
    found = rows[~rows["what"].str.endswith(AGAINST_ONE) & (rows["what"] != PLANNED)]
    value = (found["value"] + " " + found["unit"]).str.strip()
    return found[["what", "arm", "processes", "quantity"]].assign(value=value)


def demand(rows: pd.DataFrame) -> dict[str, float]:
    """Return what the paper's scale asks for, by quantity.

    Raises:
        ResultsError: If a number is missing.
    """
    found = rows[rows["what"] == PLANNED].set_index("quantity")["value"].astype(float)
    missing = [name for name in QUANTITIES if name not in found]
    if missing:
        raise ResultsError(
            f"Expected rows of {PLANNED!r} in {FILE} for {', '.join(QUANTITIES)}. Received: none "
            f"for {', '.join(missing)}. Run `python -m experiments demand`."
        )
    return {short: found[name] for name, short in QUANTITIES.items()}


def show_demand(needs: dict[str, float]) -> pd.DataFrame:
    """Show what follows from the numbers, whatever the devices."""
    flop = _flop(needs)
    shown = {
        "multiply-adds of an image, forward": f"{needs['macs'] / 1e9:.2f} billion",
        "a step, with the gradient": f"{flop['step'] / 1e12:.0f} TFLOP",
        "an arm": f"{flop['step'] * needs['steps']:.1e} FLOP in {needs['steps']:,.0f} steps, "
        f"{needs['steps'] * needs['images'] / needs['training']:.0f} epochs",
        "its evaluations": f"{flop['evaluations']:.1e} FLOP, "
        f"{100 * flop['evaluations'] / flop['step'] / needs['steps']:.0f} % more",
        "parameters": f"{needs['parameters']:,.0f}, {_megabytes(needs):.0f} MB",
        "a checkpoint": f"{COPIES * _megabytes(needs):.0f} MB",
        "an epoch of JPEGs": f"{needs['training'] * needs['kB'] / 1e6:.0f} GB",
        "the same decoded": f"{needs['training'] * 3 * needs['side'] ** 2 / 1e9:.0f} GB",
        "decoding, cutting and resizing an image": f"{needs['decode_ms']:g} ms of a core",
        "flipping and scaling it": f"{needs['scale_ms']:g} ms of a core",
        "images that a core makes": f"{_images_of_a_core(needs):.0f} a second",
    }
    return pd.DataFrame({"what": shown.keys(), "how much": shown.values()})


def plan(needs: dict[str, float]) -> pd.DataFrame:
    """Show an arm's time and cost by the number of devices, by what is assumed of them."""
    flop, rows = _flop(needs), []
    for devices in DEVICES:
        compute = flop["step"] / devices / FLOP_S
        exchange = 2 * _megabytes(needs) * 1e6 * (devices - 1) / devices / LINK
        seconds = needs["steps"] * (compute + exchange) + flop["evaluations"] / devices / FLOP_S
        hours, images = seconds / 3600, needs["images"] / (compute + exchange)
        rows.append(
            {
                "devices": f"{devices}",
                f"a step: compute at {FLOP_S / 1e12:.0f} TFLOP/s": f"{compute:.2g} s",
                f"all-reduce at {LINK / 1e9:.0f} GB/s": f"{exchange:.2g} s" if exchange else "-",
                "an arm": f"{hours:.2g} h",
                "device-hours": f"{hours * devices:.0f}",
                f"at {PRICE:.2f} an hour": f"{hours * devices * PRICE:.0f}",
                "cores to decode": f"{images / _images_of_a_core(needs):.0f}",
                "read": f"{images * needs['kB'] / 1e3:.0f} MB/s",
            }
        )
    return pd.DataFrame(rows)


def _flop(needs):
    forward = 2 * needs["macs"]
    return {
        "step": BACKWARD * forward * needs["images"],
        "evaluations": forward * needs["evaluated"],
    }


def _megabytes(needs):
    return 4 * needs["parameters"] / 1e6


def _images_of_a_core(needs):
    return 1e3 / (needs["decode_ms"] + needs["scale_ms"])
