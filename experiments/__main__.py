"""The experiments from the command line.

python -m experiments list    [--protocol NAME]         what there is to run
python -m experiments prepare --dataset NAME            fetch or convert a data set
python -m experiments run     --protocol NAME [--arms A,B] [--seeds 0,1] [--jobs N]
python -m experiments status  --protocol NAME           what is done, and how long the rest takes
python -m experiments collect [--protocol NAME]         one table of all results
python -m experiments benchmark                         the layers' speed beside other layers'
python -m experiments monitor                           r and d of a run, and what looking costs
"""

import argparse
import os
import sys

from experiments.grid.protocols import MINIBATCH, PROTOCOLS
from experiments.grid.runs import protocol_named, select_runs
from experiments.records.store import Store


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 1 if something is missing or wrong."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from the last checkpoints.", file=sys.stderr)
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
        _add_protocol(added, required=protocol_required, help=f"one of {names}")
        added.add_argument("--arms", type=_names, help="comma-separated; all by default")
        added.add_argument("--seeds", type=_numbers, help="comma-separated; the study's by default")
        added.add_argument("--studies", type=_names, help="comma-separated; all by default")
        added.add_argument("--results", default="results", help="folder of results")
        return added

    command("list", _list, "list runs: id, section, figure", protocol_required=False)
    run = command("run", _run, "train the runs that have no result yet")
    run.add_argument("--jobs", type=int, default=1, help="processes, sharing the cores (default 1)")
    _add_data_dir(run)
    status = command("status", _status, "what is done, what remains, how long that takes")
    status.add_argument("--verbose", action="store_true", help="a line for every run")
    text = "write <protocol>.csv and <protocol>.json from the results, by default of all with any"
    command("collect", _collect, text, protocol_required=False)

    text = "time the layers beside others, on the backend KERAS_BACKEND"
    benchmark = commands.add_parser("benchmark", help=text, description=text)
    benchmark.set_defaults(command=_benchmark)
    benchmark.add_argument("--results", default="results", help="folder of results")
    benchmark.add_argument("--rounds", type=int, default=31, help="times of each (default 31)")
    benchmark.add_argument("--quick", action="store_true", help="two rounds of small shapes")
    benchmark.add_argument("--gpu", action="store_true", help="ResNet-50's shapes, bfloat16 too")

    text = "train one run, watched by the monitor, on the backend KERAS_BACKEND"
    monitor = commands.add_parser("monitor", help=text, description=text)
    monitor.set_defaults(command=_monitor)
    _add_protocol(monitor, default="digits", help="default digits")
    monitor.add_argument("--arm", default="brn-4", help="default brn-4")
    monitor.add_argument("--seed", type=int, default=0, help="default 0")
    monitor.add_argument("--every", type=int, default=10, help="steps between looks (default 10)")
    monitor.add_argument("--results", default="results", help="folder of results")

    prepare = commands.add_parser("prepare", help="fetch or convert a data set")
    prepare.set_defaults(command=_prepare)
    prepare.add_argument("--dataset", required=True, help="a name, as in experiments/data/load.py")
    prepare.add_argument("--image-size", type=int, help="side to resize to (default: as it is)")
    prepare.add_argument("--manual-dir", help="folder with archives that are got by hand")
    _add_data_dir(prepare)
    return parser


def _add_protocol(parser, **options):
    # `--scale` is what it was called once: commands that were written down keep working.
    parser.add_argument("--protocol", "--scale", metavar="NAME", **options)


def _add_data_dir(parser):
    parser.add_argument("--data-dir", help="folder of TFDS's data (default $TFDS_DATA_DIR)")


def _names(text):
    return [name for name in text.split(",") if name]


def _numbers(text):
    return [int(name) for name in _names(text)]


def _selected(options):
    return select_runs(options.protocol, options.arms, options.seeds, options.studies)


def _list(options):
    names = [options.protocol] if options.protocol else [known.name for known in PROTOCOLS]
    for name in names:
        protocol = protocol_named(name)
        step = f"{protocol.workers} x {MINIBATCH}"
        print(f"{name}: {protocol.title}, {protocol.steps} steps of {step}")
        for run in select_runs(name, options.arms, options.seeds, options.studies):
            where = f"section {run.arm.section}, figure {run.arm.figure}: "
            print(f"  {run.id:44} {where if run.arm.section else ''}{run.arm.label}")
    return 0


def _run(options):
    if options.jobs < 1:
        raise ValueError(f"Expected --jobs of at least 1. Received: --jobs {options.jobs}")
    from experiments.training.workers import run_all

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    runs = _selected(options)
    outcome = run_all(runs, options.results, options.data_dir, options.jobs)
    before = len(runs) - len(outcome)
    counts = {status: list(outcome.values()).count(status) for status in set(outcome.values())}
    now = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    print(f"{options.protocol}: {len(runs)} runs; {before} had ended before; now: {now or 'none'}")
    if "busy" in counts:
        print("Busy runs are being trained by another command: see `status`.")
    from experiments.records.status import summary

    print("\n".join(summary(Store(options.results), runs)))
    return 0


def _status(options):
    from experiments.records.status import describe

    print(describe(Store(options.results), _selected(options), options.verbose))
    return 0


def _collect(options):
    from experiments.records.collect import collect

    store = Store(options.results)
    names = [options.protocol] if options.protocol else store.protocols()
    for name in names:
        runs = select_runs(name, options.arms, options.seeds, options.studies)
        found, missing = collect(store, runs)
        print(f"{store.root / name}.csv: {found} runs")
        left_out = len(select_runs(name)) - len(runs)
        if left_out > 0:
            print(f"{left_out} more runs of the protocol were not asked for: not in the table.")
        for run_id in missing:
            print(f"missing: {run_id}", file=sys.stderr)
    return 1 if options.protocol and missing else 0


def _benchmark(options):
    if options.rounds < 1:
        raise ValueError(f"Expected --rounds of at least 1. Received: --rounds {options.rounds}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from experiments.speed import benchmark

    benchmark.run(options.results, options.rounds, options.quick, options.gpu)
    return 0


def _monitor(options):
    (run,) = select_runs(options.protocol, [options.arm], [options.seed])
    from experiments.studies import clipping

    clipping.record(run, options.every, options.results)
    return 0


def _prepare(options):
    from experiments.data.load import prepare

    source = prepare(
        options.dataset, options.data_dir, options.manual_dir, image_size=options.image_size
    )
    sizes = f"{len(source.train)} training and {len(source.validation)} validation images"
    print(f"{options.dataset}: {source.classes} classes, {sizes} of {source.image_shape}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
