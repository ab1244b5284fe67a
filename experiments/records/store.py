"""Results and checkpoints on disk: nothing half-written, nothing silently replaced, no run twice.

```
<root>/runs/<protocol>/<run id>.json          the result of a run, written once, when it ended
<root>/checkpoints/<protocol>/<run id>.npz    the state of a run under way (not kept in git)
<root>/checkpoints/<protocol>/<run id>.lock   held by the process that works on the run
```
"""

import json
from pathlib import Path

import filelock
import numpy as np

import files
from experiments.grid.runs import Run


class Store:
    """The folder of results.

    Args:
        root: the folder; made when something is written.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def protocols(self) -> list[str]:
        """Names the protocols with results, as their folders are named."""
        return sorted(path.name for path in (self.root / "runs").glob("*") if any(path.iterdir()))

    def result_path(self, run: Run) -> Path:
        """Where the result of a run is, or will be."""
        return self.root / "runs" / run.protocol.name / f"{run.id}.json"

    def checkpoint_path(self, run: Run) -> Path:
        """Where the checkpoint of a run is, or will be."""
        return self._state_path(run, "npz")

    def _state_path(self, run, ending):
        return self.root / "checkpoints" / run.protocol.name / f"{run.id}.{ending}"

    def result(self, run: Run) -> dict | None:
        """Returns the result of a run, or `None` if it has none yet.

        Raises:
            ValueError: if the result of this id was made with another configuration.
        """
        path = self.result_path(run)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        self._check_config(run, result["config"], path)
        return result

    def write_result(self, run: Run, result: dict) -> None:
        """Writes the result of a run, whole or not at all, and drops its checkpoint.

        Raises:
            ValueError: if the run already has a result.
        """
        path = self.result_path(run)
        if path.exists():
            raise ValueError(
                f"Expected no result of this run yet. Received: {path}. Results are never "
                "replaced: move that file away first."
            )
        files.write(path, json.dumps(result, indent=1) + "\n")
        self.checkpoint_path(run).unlink(missing_ok=True)

    def checkpoint(self, run: Run) -> tuple[dict, dict[str, np.ndarray]] | None:
        """Returns the notes and arrays of a run's checkpoint, or `None` if it has none.

        Raises:
            ValueError: if the checkpoint was made with another configuration.
        """
        path = self.checkpoint_path(run)
        try:
            with np.load(path) as saved:
                arrays = dict(saved)
        except FileNotFoundError:  # there was none, or the run ended just now
            return None
        notes = json.loads(arrays.pop("notes").item())
        self._check_config(run, notes["config"], path)
        return notes, arrays

    def write_checkpoint(self, run: Run, notes: dict, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint over the last one: at any time one of the two is whole."""
        notes = json.dumps({**notes, "config": run.config()})
        with files.replacing(self.checkpoint_path(run)) as file:
            np.savez(file, notes=np.array(notes), **arrays)

    def try_lock(self, run: Run) -> filelock.FileLock | None:
        """Returns the lock of a run, held until released or the process ends, or `None`.

        `None` means that another process works on the run. Under the lock, what killed writes of
        the run's files left behind is removed.
        """
        path = self._state_path(run, "lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=1)  # `status` holds it for an instant
        except filelock.Timeout:
            return None
        files.tidy(self.result_path(run))
        files.tidy(self.checkpoint_path(run))
        return lock

    @staticmethod
    def _check_config(run, config, path):
        expected = json.loads(json.dumps(run.config()))
        if config == expected:
            return
        different = sorted(k for k in {*config, *expected} if config.get(k) != expected.get(k))
        changes = ", ".join(f"{k}={config.get(k)!r} (now {expected.get(k)!r})" for k in different)
        raise ValueError(
            f"Expected {path} to have been made with the grid's configuration of {run.id}. "
            f"Received: {changes}. Move the file away, or give the protocol a new name."
        )
