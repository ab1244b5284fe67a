"""Results and checkpoints on disk: nothing half-written, nothing silently replaced, no run twice.

```
<root>/runs/<protocol>/<run id>.json          the result of a run, written once, when it ended
<root>/checkpoints/<protocol>/<run id>.npz    the state of a run under way (not kept in git)
<root>/checkpoints/<protocol>/<run id>.lock   held by the process that works on the run
<root>/protocols/<protocol>.toml              the file of a protocol that is not built in
```

What is read is checked as it is read: a `DamagedError` names the file, what is wrong with it, the
way out and what that costs. Reading writes nothing.
"""

import json
import os
from pathlib import Path

import filelock
import numpy as np

import files
from experiments.grid.runs import Run
from experiments.records import checks


class DamagedError(ValueError):
    """A file of a run that is not what was written for this run: cut off, changed or foreign."""


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

    def protocol_file(self, name: str) -> Path:
        """Where the file of a protocol that is not built in is kept."""
        return self.root / "protocols" / f"{name}.toml"

    def keep_protocol(self, file: str | Path) -> None:
        """Keeps a copy of a protocol's file, so that its results can be read without it."""
        file = Path(file)
        kept = self.protocol_file(file.stem)
        if not kept.exists() or file.read_bytes() != kept.read_bytes():
            files.write(kept, file.read_bytes())

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
            DamagedError: if the file is not a whole result of this run, or was made with another
                configuration.
        """
        path = self.result_path(run)
        try:
            result = checks.parsed(path.read_bytes())
            checks.check_result(run, result)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedError(
                f"Expected {path} to be the result of {run.id}. Received: {error}. Put back a copy "
                "of it, or remove it: the run is then trained anew, from its first step."
            ) from error
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
            DamagedError: if the file is not a whole checkpoint of this run, or was made with
                another configuration.
        """

        def read(saved):
            arrays = dict(saved)
            text = arrays.pop("notes").item()
            checksum = arrays.pop("checksum", None)  # checkpoints had none once
            if checksum is not None and checksum.item() != checks.checksum(text, arrays):
                raise ValueError("contents that do not fit their checksum")
            if checksum is None and not all(map(checks.finite, arrays.values())):
                raise ValueError("numbers that are not finite, and no checksum")
            return self._checked_notes(run, text), arrays

        return self._read_checkpoint(run, read)

    def checkpoint_notes(self, run: Run) -> dict | None:
        """Returns the notes alone, in no time: the arrays are not read, so not checked."""
        return self._read_checkpoint(
            run, lambda saved: self._checked_notes(run, saved["notes"].item())
        )

    def _checked_notes(self, run, text):
        notes = checks.parsed(text)
        checks.check_notes(notes)
        self._check_config(run, notes["config"], self.checkpoint_path(run))
        return notes

    def _read_checkpoint(self, run, read):
        """Turns whatever reading a file can raise into an error that says what to do."""
        path = self.checkpoint_path(run)
        try:
            with open(path, "rb") as file, np.load(file) as saved:
                return read(saved)
        except FileNotFoundError:  # there was none, or the run ended just now
            return None
        except DamagedError:
            raise
        except Exception as error:  # of zipfile, zlib, struct, pickle, json ...: anything
            raise damaged_checkpoint(path, run, str(error) or type(error).__name__) from error

    def write_checkpoint(self, run: Run, notes: dict, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint over the last one: at any time one of the two is whole."""
        text = json.dumps({**notes, "config": run.config()})
        checksum = checks.checksum(text, arrays)
        with files.replacing(self.checkpoint_path(run)) as file:
            np.savez(file, notes=np.array(text), checksum=np.array(checksum), **arrays)

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

    def is_locked(self, run: Run) -> bool:
        """Returns whether a process works on the run; writes nothing to find out."""
        import fcntl  # what `filelock` uses, where there is one

        try:
            descriptor = os.open(self._state_path(run, "lock"), os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def _check_config(run, config, path):
        expected = json.loads(json.dumps(run.config()))
        if config == expected:
            return
        different = sorted(k for k in {*config, *expected} if config.get(k) != expected.get(k))
        changes = ", ".join(f"{k}={config.get(k)!r} (now {expected.get(k)!r})" for k in different)
        raise DamagedError(
            f"Expected {path} to have been made with the grid's configuration of {run.id}. "
            f"Received: {changes}. Move the file away, or give the protocol a new name."
        )


def damaged_checkpoint(path: Path, run: Run, what: str) -> DamagedError:
    """Returns the error that says what is wrong with a run's checkpoint, and the way out."""
    return DamagedError(
        f"Expected {path} to be a whole checkpoint of {run.id}. Received: {what}. Put back a copy "
        "of it, or remove it: the run then begins anew, from its first step."
    )
