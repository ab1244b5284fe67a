"""What `make` does at once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PIP = """#!/bin/sh
mkdir busy || exit 1
echo "$@" >> log
sleep 0.1
rmdir busy
"""


@pytest.mark.any_backend
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_however_many_jobs_installations_follow_one_another_and_none_comes_twice(tmp_path):
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "created").touch()
    pip = tmp_path / "bin" / "pip"
    pip.parent.mkdir()
    pip.write_text(PIP)
    pip.chmod(0o755)
    command = ["make", "--jobs=8", "install", "BIN=bin", "BACKENDS=tensorflow jax torch"]
    clean = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    installed = (tmp_path / "log").read_text().splitlines()
    assert len(installed) == len(set(installed)) == 3
    assert subprocess.run([*command, "--question"], cwd=tmp_path, env=clean).returncode == 0
