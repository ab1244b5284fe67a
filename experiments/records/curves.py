"""Learning curves of runs under way, for looking at: a CSV, and an event log for TensorBoard.

```
<root>/curves/<protocol>/<run id>.csv                a line at each evaluation
<root>/curves/<protocol>/<run id>/events.out.*       the same for TensorBoard
```

They are copies: results and checkpoints hold the curves, and nothing reads these.
"""

import os
import socket
import time
from pathlib import Path

import pandas as pd

import files
from experiments.grid.runs import Run


class Curves:
    """Writes the curves of runs as they grow.

    Args:
        root: folder of results.
        events: whether to write event logs, which takes TensorFlow.
    """

    def __init__(self, root: str | Path, events: bool = False):
        self._root, self._events = Path(root) / "curves", events
        self._logs = {}

    def __call__(self, run: Run, curve: list[dict]) -> None:
        """Writes the curve of a run, which has grown by an evaluation."""
        folder = self._root / run.protocol.name
        files.write_csv(folder / f"{run.id}.csv", pd.DataFrame(curve))
        if self._events:
            if run not in self._logs:  # all that was before, should the run have been resumed
                self._logs[run] = _EventLog(folder / run.id)
            self._logs[run].write(curve)


class _EventLog:
    def __init__(self, folder):
        import tensorflow as tf

        self._tf, self._written = tf, 0
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("events.out.*"):  # of before, all in the curve
            file.unlink()
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._add(file_version="brain.Event:2")

    def write(self, curve):
        for point in curve[self._written :]:
            values = [
                self._tf.compat.v1.Summary.Value(tag=measure, simple_value=value)
                for measure, value in point.items()
                if measure != "step"
            ]
            self._add(step=point["step"], summary=self._tf.compat.v1.Summary(value=values))
        self._written = len(curve)
        self._writer.flush()

    def _add(self, **event):
        event = self._tf.compat.v1.Event(wall_time=time.time(), **event)
        self._writer.write(event.SerializeToString())
