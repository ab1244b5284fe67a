"""Curves to look at: a line at each evaluation, and an event log that TensorBoard reads."""

import pandas as pd
import pytest

from experiments.grid.runs import select_runs
from experiments.records.curves import Curves

pytestmark = pytest.mark.any_backend

(RUN,) = select_runs("smoke", ["bn-32"], [0])
CURVE = [{"step": 2, "training_loss": 2.5}, {"step": 4, "training_loss": 1.5, "extra": 1.0}]


def test_a_csv_has_a_line_at_each_evaluation(tmp_path):
    curves = Curves(tmp_path)
    for points in (1, 2):
        curves(RUN, CURVE[:points])
        table = pd.read_csv(tmp_path / "curves" / "smoke" / f"{RUN.id}.csv")
        assert list(table["training_loss"]) == [2.5, 1.5][:points]
    assert list(table.columns) == ["step", "training_loss", "extra"]
    assert not (tmp_path / "curves" / "smoke" / RUN.id).exists()


def test_an_event_log_holds_each_point_once_also_after_a_resume(tmp_path):
    tf = pytest.importorskip("tensorflow")
    before = Curves(tmp_path, events=True)
    before(RUN, CURVE[:1])
    resumed = Curves(tmp_path, events=True)
    resumed(RUN, CURVE[:1])
    resumed(RUN, CURVE)
    (log,) = (tmp_path / "curves" / "smoke" / RUN.id).glob("events.out.tfevents.*")
    records = [tf.compat.v1.Event.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(log))]
    assert records[0].file_version == "brain.Event:2"
    found = [(e.step, v.tag, v.simple_value) for e in records[1:] for v in e.summary.value]
    assert found == [(2, "training_loss", 2.5), (4, "training_loss", 1.5), (4, "extra", 1.0)]
