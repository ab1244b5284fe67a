"""Studies beside the accuracy of runs, each in a module: what it measures, and what it says.

`instruments` is what training is given: it knows no study itself.
"""


def instruments(trainer) -> list:
    """Returns the instruments that the arm of a trainer asks for, beside those of every run."""
    if not trainer.arm.measurements:
        return []
    from experiments.studies.inference import Measurements

    return [Measurements(trainer)]
