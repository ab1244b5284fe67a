"""The experiments from the command line.

python -m experiments list    [--protocol NAME]         what there is to run
python -m experiments prepare --dataset NAME            fetch or convert a data set
python -m experiments run     --protocol NAME|FILE.toml [--arms A,B] [--seeds 0,1] [--jobs N]
python -m experiments status  --protocol NAME           what is done, and how long the rest takes
python -m experiments collect [--protocol NAME]         one table of all results
python -m experiments benchmark                         the layers' speed beside other layers'
python -m experiments monitor                           r and d of a run, and what looking costs
python -m experiments demand                            what the paper's scale asks of machines
"""

import argparse
import dataclasses
import importlib.util
import os
import shlex
import sys
import time

from experiments.grid.protocols import MINIBATCH, PROTOCOLS, SOURCES
from experiments.grid.runs import protocol_named, select_runs
from experiments.records.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0; 1 if something is missing or wrong; of `run`, 75 after SIGTERM and 130 after Ctrl-C, if the
    same command would go on.
    """
    options = _parser().parse_args(arguments)
    options.written = sys.argv[1:] if arguments is None else arguments
    try:
        return options.command(options)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, text, protocol_required=True):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=function)
        names = ", ".join(protocol.name for protocol in PROTOCOLS)
        text = f"one of {names}, or a file: FILE.toml"
        _add_protocol(added, required=protocol_required, help=text)
        added.add_argument("--arms", help="comma-separated; all by default")
        added.add_argument("--seeds", help="comma-separated; the study's by default")
        added.add_argument("--studies", help="comma-separated; all by default")
        text = "another value of a setting of the protocol, for a quick try; can be repeated"
        added.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=text)
        added.add_argument("--results", default="results", help="folder of results")
        return added

    command("list", _list, "list runs: id, section, figure", protocol_required=False)
    run = command("run", _run, "train the runs that have no result yet")
    run.add_argument("--jobs", type=int, default=1, help="processes, sharing the cores (default 1)")
    text = "write a checkpoint between evaluations when the last is that old (default 10)"
    run.add_argument("--checkpoint-minutes", type=float, default=10.0, metavar="N", help=text)
    text = "write event logs into <results>/curves, beside the CSV at each evaluation"
    run.add_argument("--tensorboard", action="store_true", help=text)
    together = run.add_argument_group(
        "one run by several processes (docs/scale.md)", "also from srun, mpirun or torchrun"
    )
    together.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 is")
    together.add_argument("--processes", type=int, help="how many")
    together.add_argument("--process", type=int, help="which one this is, from 0")
    _add_data_dir(run)
    status = command("status", _status, "what is done, what remains, how long that takes")
    status.add_argument("--verbose", action="store_true", help="a line for every run")
    text = "show it again every so many seconds (default 10) until nothing is left to be done"
    status.add_argument("--watch", type=float, nargs="?", const=10.0, metavar="SECONDS", help=text)
    text = "write <protocol>.csv and <protocol>.json from the results, by default of all with any"
    command("collect", _collect, text, protocol_required=False)

    text = "time the layers beside others, on the backend KERAS_BACKEND"
    benchmark = commands.add_parser("benchmark", help=text, description=text)
    benchmark.set_defaults(command=_benchmark)
    benchmark.add_argument("--results", default="results", help="folder of results")
    benchmark.add_argument("--rounds", type=int, default=31, help="times of each (default 31)")
    benchmark.add_argument("--quick", action="store_true", help="two rounds of small shapes")
    benchmark.add_argument("--gpu", action="store_true", help="shapes for a GPU, bfloat16 too")

    text = "train one run, watched by the monitor, on the backend KERAS_BACKEND"
    monitor = commands.add_parser("monitor", help=text, description=text)
    monitor.set_defaults(command=_monitor, set=[])
    _add_protocol(monitor, default="digits", help="default digits")
    monitor.add_argument("--arm", default="brn-4", help="default brn-4")
    monitor.add_argument("--seed", type=int, default=0, help="default 0")
    monitor.add_argument("--every", type=int, default=10, help="steps between looks (default 10)")
    monitor.add_argument("--results", default="results", help="folder of results")

    text = "count the paper's network and time decoding, for the plan in docs/scale.md"
    demand = commands.add_parser("demand", help=text, description=text)
    demand.set_defaults(command=_demand)
    demand.add_argument("--results", default="results", help="folder of results")

    prepare = commands.add_parser("prepare", help="fetch or convert a data set")
    prepare.set_defaults(command=_prepare)
    prepare.add_argument("--dataset", required=True, help="a name, as in experiments/data/load.py")
    prepare.add_argument("--image-size", type=int, help="side to resize to (default: as it is)")
    prepare.add_argument("--manual-dir", help="folder with archives that are got by hand")
    text = "refuse a folder with anything that is not a readable image, instead of leaving it out"
    prepare.add_argument("--strict", action="store_true", help=text)
    _add_data_dir(prepare)
    return parser


def _add_protocol(parser, **options):
    # `--scale` is what it was called once: commands that were written down keep working.
    parser.add_argument("--protocol", "--scale", metavar="NAME", **options)


def _add_data_dir(parser):
    parser.add_argument("--data-dir", help="folder of TFDS's data (default $TFDS_DATA_DIR)")


def _names(option, text):
    """Returns the names of a comma-separated list, each once; `None` if there is no list."""
    if text is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError(
            f"Expected {option} with at least one name. Received: {option} {text!r}. "
            "Without the option, all are taken."
        )
    return names


def _seeds(text):
    try:
        return text if text is None else [int(name) for name in _names("--seeds", text)]
    except ValueError:
        raise ValueError(
            f"Expected --seeds of whole numbers, such as 0,1,2. Received: --seeds {text!r}"
        ) from None


def _protocol(options):
    kept = Store(options.results).protocol_file(options.protocol)  # by an earlier `run`
    return protocol_named(str(kept) if kept.exists() else options.protocol, options.set)


def _selected(options, protocol):
    return select_runs(
        protocol,
        _names("--arms", options.arms),
        _seeds(options.seeds),
        _names("--studies", options.studies),
    )


def _list(options):
    for protocol in [_protocol(options)] if options.protocol else PROTOCOLS:
        step = f"{protocol.workers} x {MINIBATCH}"
        print(f"{protocol.name}: {protocol.title}, {protocol.steps} steps of {step}")
        for setting, source in SOURCES.get(protocol.name, {}).items():
            print(f"  {setting:26} {getattr(protocol, setting)!s:12} {source}")
        for run in _selected(options, protocol):
            where = f"section {run.arm.section}, figure {run.arm.figure}: "
            print(f"  {run.id:44} {where if run.arm.section else ''}{run.arm.label}")
    return 0


def _run(options):
    if options.jobs < 1:
        raise ValueError(f"Expected --jobs of at least 1. Received: --jobs {options.jobs}")
    if not options.checkpoint_minutes > 0:
        raise ValueError(
            "Expected --checkpoint-minutes above 0. "
            f"Received: --checkpoint-minutes {options.checkpoint_minutes:g}"
        )
    from experiments.records.status import summary, survey
    from experiments.studies import instruments
    from experiments.training import distributed, launchers, signals, workers

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if options.tensorboard and importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            "Expected TensorFlow, which writes the event logs. Received: --tensorboard without it. "
            "Install it: pip install tensorflow"
        )
    protocol = _protocol(options)
    runs = _selected(options, protocol)
    where = (runs, options.results, options.data_dir)
    how = (instruments, options.checkpoint_minutes, options.tensorboard)
    place = launchers.place(options.coordinator, options.processes, options.process, os.environ)
    if place and options.jobs != 1:
        raise ValueError(
            "Expected --jobs of 1 where several processes train one run. "
            f"Received: --jobs {options.jobs} with {place.processes} processes"
        )
    leads = place is None or place.process == 0
    if options.protocol.endswith(".toml") and not options.set and leads:
        Store(options.results).keep_protocol(options.protocol)
    before = sum(Store(options.results).result_path(run).exists() for run in runs)
    if place:
        outcome = distributed.run_together(*where, place, *how)
        if not leads:
            return signals.exit_code(outcome.signal) if outcome.signal else 0
    else:
        outcome = workers.run_all(*where, options.jobs, *how)
    states = list(outcome.ended.values()) + ["failed"] * len(outcome.failed)
    now = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    print(f"{protocol.name}: {len(runs)} runs; {before} had ended before; now: {now or 'none'}")
    if "busy" in states:
        print("Busy runs are being trained by another command: see `status`.")
    print(summary(survey(Store(options.results), runs)), flush=True)
    if outcome.failed or outcome.signal or "stopped" in states:
        print(f"To go on: python -m experiments {shlex.join(options.written)}", file=sys.stderr)
    if outcome.signal:
        return signals.exit_code(outcome.signal)
    return 1 if outcome.failed or "stopped" in states else 0


def _status(options):
    from experiments.records.status import ENDED, describe, survey

    if options.watch is not None and not options.watch > 0:
        raise ValueError(f"Expected --watch above 0. Received: --watch {options.watch:g}")
    store, runs = Store(options.results), _selected(options, _protocol(options))
    while True:
        states = survey(store, runs)
        if options.watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(describe(states, options.verbose), flush=True)
        if not options.watch or all(at.state in (*ENDED, "damaged") for at in states.values()):
            return 1 if any(at.damage for at in states.values()) else 0
        time.sleep(options.watch)


def _collect(options):
    from experiments.records.collect import collect

    store = Store(options.results)
    missing, unknown = {}, []
    for name in [options.protocol] if options.protocol else store.protocols():
        if not options.protocol and "+" in name:
            print(f"{name}: a quick try with --set, which `collect` takes with the same --set only")
            continue
        try:
            protocol = _protocol(argparse.Namespace(**{**vars(options), "protocol": name}))
        except ValueError as error:
            if options.protocol:
                raise
            unknown.append(f"{store.root / 'runs' / name} is left out. {error}")
            print(unknown[-1], file=sys.stderr)
            continue
        runs = _selected(options, protocol)
        found, missing = collect(store, runs)
        print(f"{store.root / protocol.name}.csv: {found} runs")
        left_out = len(select_runs(protocol)) - len(runs)
        if left_out > 0:
            print(f"{left_out} more runs of the protocol were not asked for: not in the table.")
        for run_id, damage in missing.items():
            print(f"missing: {run_id}{': ' if damage else ''}{damage}", file=sys.stderr)
    return 1 if unknown or (options.protocol and missing) else 0


def _benchmark(options):
    if options.rounds < 1:
        raise ValueError(f"Expected --rounds of at least 1. Received: --rounds {options.rounds}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from experiments.speed import benchmark
    from experiments.training import environment

    if options.gpu and environment.gpu() is None:
        print("No GPU is seen by this backend: nothing is measured, nothing written.")
        return 0
    benchmark.run(options.results, options.rounds, options.quick, options.gpu)
    return 0


def _monitor(options):
    (run,) = select_runs(_protocol(options), [options.arm], [options.seed])
    from experiments.studies import clipping

    clipping.record(run, options.every, options.results)
    return 0


def _demand(options):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from experiments.speed import demand

    demand.run(options.results)
    return 0


def _prepare(options):
    from experiments.data.load import prepare

    source = prepare(
        options.dataset,
        options.data_dir,
        options.manual_dir,
        image_size=options.image_size,
        strict=options.strict,
    )
    for name, why in source.left_out.items():
        print(f"left out: {name}: {why}")
    sizes = f"{len(source.train)} training and {len(source.validation)} validation images"
    left_out = f"; {len(source.left_out)} left out" if source.left_out else ""
    print(f"{options.dataset}: {source.classes} classes, {sizes} of {source.image_shape}{left_out}")
    for lacking in _lacking(options.dataset, source):
        print(f"warning: {lacking}", file=sys.stderr)
    return 0


def _lacking(dataset, source):
    """Says which arms cannot draw their structured minibatches from a data set."""
    from experiments.data.sampling import shortage

    for protocol in PROTOCOLS:
        structured = [a for a in protocol.arms.values() if a.sampling != "iid"]
        for arm in structured if protocol.source == dataset else ():
            of_arm = dataclasses.replace(protocol, **arm.changes)
            needed = {"training": (source.train, of_arm.images_per_label)}
            if arm.minibatch_statistics:
                needed["validation"] = (source.validation, of_arm.test_structure[1])
            for name, (split, images) in needed.items():
                if lacking := shortage(split.labels, images):
                    yield f"{protocol.name}, {arm.name}, {name} images: {lacking}"


if __name__ == "__main__":
    sys.exit(main())
