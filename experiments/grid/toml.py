"""Protocols from files: anybody's question, run, collected and drawn like the built-in ones.

```toml
base = "tiny_imagenet"            # what is not said here is as there
source = "folder:photos"          # any setting of a protocol
classes = 4
training_images = 800
steps = 300
seeds = [0, 1, 2]

[arms.bn-4]                       # an arm there is
[arms.brn-4]

[arms.brn-4-wide]                 # an arm of one's own: what is not said is as in its base
base = "brn-4"
bounds = "6/10"
alpha = 0.02
```

`arms` can also be a list of names; without it, the base's studies are run. Runs and results are
named after the file. `--set name=value` changes a protocol for a quick try; its runs are named
after the change.
"""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

from experiments.data.sampling import ARRANGEMENTS
from experiments.grid import arms as grid
from experiments.grid.arms import Arm, Study
from experiments.grid.normalizations import KINDS, Bounds, Normalization
from experiments.grid.protocols import MINIBATCH, PROTOCOLS, Protocol
from experiments.grid.settings import check_together, checked, nearest, of_kind, strings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
OWN = "own"
"""The study of the arms that are in none of the base's."""
_NONE_AFTER = "none after "
_OF_ALL_ARMS = ("source", "classes", "training_images", "image_size", "steps", "title", "notes")
"""What an arm cannot change: these make the runs of a protocol comparable."""


def read(path: str | Path) -> Protocol:
    """Returns the protocol of a file.

    Raises:
        ValueError: if the file is not there or no TOML, or for a name or a value that cannot be;
            the message has the file, what was received and the nearest names.
    """
    path = Path(path)
    where = str(path)
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(
            f"Expected {path} to be a protocol in TOML. Received: {error}. "
            "docs/own-question.md shows one."
        ) from error
    builtin = {protocol.name: protocol for protocol in PROTOCOLS}
    if not NAME.fullmatch(path.stem) or path.stem in builtin:
        raise ValueError(
            f"{where}: expected a file named in letters, digits, '_', '-' and '.', and not as one "
            f"of {', '.join(builtin)}: results are named after it. Received: {path.stem!r}."
        )
    base = builtin[_known("base", written.pop("base", None), builtin, where)]
    seeds = _seeds(written.pop("seeds", None), where)
    chosen = written.pop("arms", None)
    title = written.pop("title", f"{path.stem}, after {base.title}")
    own_notes = written.pop("notes", [f"As {base.name}, with what {path.name} changes."])
    protocol = changed(base, {"title": title, "notes": own_notes, **written}, where)
    protocol = dataclasses.replace(protocol, name=path.stem)
    return dataclasses.replace(protocol, studies=_studies(protocol, chosen, seeds, where))


def with_settings(protocol: Protocol, settings: list[str]) -> Protocol:
    """Returns a protocol with `name=value` settings, named after them.

    Raises:
        ValueError: for a name or a value that cannot be.
    """
    where, changes = "--set", {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"Expected --set name=value. Received: --set {setting!r}")
        try:
            changes[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[name] = text  # a text without quotes
    if not changes:
        return protocol
    made = changed(protocol, changes, where)
    for arm in made.arms.values():
        _check_arm(made, arm, where)
    ending = "".join(
        f"+{name}={re.sub(r'[^A-Za-z0-9_.-]+', '_', str(value))}" for name, value in changes.items()
    )
    return dataclasses.replace(
        made,
        name=protocol.name + ending,
        title=f"{protocol.title}, {', '.join(f'{k}={v}' for k, v in changes.items())}",
        notes=(f"A quick try: {protocol.name} with other settings.", *protocol.notes),
    )


def changed(base: Protocol, changes: dict[str, Any], where: str) -> Protocol:
    """Returns a protocol with other settings, each of them and all together checked."""
    values = {name: checked(name, value, where) for name, value in changes.items()}
    if values.get("source", base.source) != base.source:
        lacking = [name for name in ("classes", "training_images") if name not in values]
        if lacking:
            raise ValueError(
                f"{where}: expected {' and '.join(lacking)} of the new source. Received: "
                f"source={values['source']!r}. `python -m experiments prepare --dataset "
                f"{values['source']}` tells them."
            )
    protocol = dataclasses.replace(base, **values)
    check_together(protocol, where)
    return protocol


def _known(kind, name, known, where):
    if name not in known:
        raise ValueError(
            f"{where}: expected a name that exists. Received: {kind}={name!r}. "
            f"{nearest(str(name), known)}"
        )
    return name


def _seeds(seeds, where):
    whole = isinstance(seeds, list) and all(type(s) is int and s >= 0 for s in seeds)
    if seeds is not None and not (whole and seeds and len(set(seeds)) == len(seeds)):
        raise ValueError(
            f"{where}: expected seeds to be different whole numbers from 0, such as [0, 1, 2]. "
            f"Received: seeds={seeds!r}."
        )
    return None if seeds is None else tuple(seeds)


def _studies(protocol, chosen, seeds, where):
    """Returns the base's studies as far as their arms are chosen, and one of the other arms."""
    arms = protocol.arms if chosen is None else _chosen_arms(protocol, chosen, where)
    for arm in arms.values():
        _check_arm(protocol, arm, where)
    studies = []
    for study in protocol.studies:
        kept = tuple(arm for arm in study.arms if arm.name in arms)
        if kept:
            studies.append(dataclasses.replace(study, arms=kept, seeds=seeds or study.seeds))
    others = tuple(arm for name, arm in arms.items() if name not in protocol.arms)
    if others:
        seeds = seeds or protocol.studies[0].seeds
        studies.append(Study(OWN, f"arms of {protocol.name}", others, seeds))
    return tuple(studies)


def _chosen_arms(protocol, chosen, where):
    known = {arm.name: arm for arm in _all_arms()} | protocol.arms
    if not isinstance(chosen, dict):
        chosen = {name: {} for name in strings("arms", chosen, where)}
    if not chosen:
        raise ValueError(f"{where}: expected at least one arm. Received: arms={chosen!r}.")
    arms = {}
    for name, settings in chosen.items():
        here = f"{where}, arm {name}"
        if settings == {}:
            arms[name] = known[_known("arms", name, known, where)]
            continue
        if not isinstance(settings, dict):
            raise ValueError(f"{here}: expected a table [arms.{name}]. Received: {settings!r}.")
        if name in known or not NAME.fullmatch(name):
            raise ValueError(
                f"{here}: expected a name of its own, in letters, digits, '_', '-' and '.'. "
                f"Received: {name!r}"
                + (", an arm there is: leave its table empty for that." if name in known else ".")
            )
        settings = dict(settings)
        base = known[_known("base", settings.pop("base", "bn-32"), known, here)]
        arms[name] = _own_arm(name, base, settings, here)
    return arms


def _all_arms():
    studies = (grid.PAPER, grid.CONTROLS, grid.STRONGLY_STRUCTURED, grid.GROUP_SIZES, grid.DEGREES)
    studies += (grid.HALVES, grid.BOUNDS, grid.ALPHAS, grid.NONIID_ALPHAS)
    return [arm for arms in studies for arm in arms]


def _own_arm(name, base, settings, where):
    own = {
        "label": str,
        "normalization": str,
        "group": int | str,
        "bounds": str,
        "sampling": str,
        "minibatch_statistics": bool,
    }
    attributes, changes, how = {"label": name}, {}, {}
    for setting, value in settings.items():
        if setting in own:
            value = of_kind(setting, value, own[setting], where)
            (how if setting in ("normalization", "group", "bounds") else attributes)[setting] = (
                value
            )
        elif setting in _OF_ALL_ARMS:
            raise ValueError(
                f"{where}: expected {setting} before the arms, where it is set for all of them. "
                f"Received: {setting}={value!r} in an arm."
            )
        else:
            _known("setting", setting, [*own, *changeable()], where)
            changes[setting] = checked(setting, value, where)
    _known("sampling", attributes.get("sampling", "iid"), ("iid", *ARRANGEMENTS), where)
    return dataclasses.replace(
        base,
        name=name,
        section="",
        figure=None,
        normalization=_normalization(base.normalization, how, where),
        changes=base.changes | changes,
        **attributes,
    )


def _normalization(base, written, where):
    """Returns a normalization with what is written of it."""
    kind = _known("normalization", written.get("normalization", base.kind), KINDS, where)
    group = written.get("group", base.group)
    if isinstance(group, str) and group != "all":
        raise ValueError(
            f"{where}: expected group to be a whole number, or 'all' for all images of a step. "
            f"Received: group={group!r}."
        )
    bounds = _bounds(written["bounds"], where) if "bounds" in written else base.bounds
    try:
        return Normalization(kind, None if group == "all" else group, bounds)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _bounds(text, where):
    """Returns the bounds that a run file would hold as this text."""
    if text == str(Bounds()):
        return Bounds()
    try:
        if text.startswith(_NONE_AFTER):
            fraction = float(text.removeprefix(_NONE_AFTER))
            if 0 <= fraction <= 1:
                return Bounds(none_after=fraction)
        else:
            r_max, d_max = map(float, text.split("/"))
            if r_max >= 1 and d_max >= 0:
                return Bounds(r_max, d_max)
    except ValueError:
        pass  # said below
    raise ValueError(
        f"{where}: expected bounds 'paper', '<r_max>/<d_max>' with r_max from 1 and d_max from 0, "
        f"such as '3/5', or '{_NONE_AFTER}<fraction>'. Received: bounds={text!r}."
    )


def changeable() -> list[str]:
    """Returns the settings of a protocol that an arm can change."""
    names = (field.name for field in dataclasses.fields(Protocol))
    return [name for name in names if name not in ("name", "studies", *_OF_ALL_ARMS)]


def _check_arm(protocol: Protocol, arm: Arm, where: str) -> None:
    """Raises a `ValueError` if an arm cannot be trained in a protocol."""
    where = f"{where}, arm {arm.name}"
    effective = dataclasses.replace(protocol, **arm.changes)
    check_together(effective, where)
    images, group = effective.workers * MINIBATCH, arm.normalization.group
    if group is not None and images % group:
        raise ValueError(
            f"{where}: expected a group that divides the {images} images of a step. "
            f"Received: group={group}."
        )
