"""The code that README and documentation show runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import brn

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LONG = {"converting.md": pytest.mark.any_backend}
"""What compiles a large network."""


def blocks():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        code = "".join(BLOCK.findall(page.read_text(encoding="utf-8")))
        if code:
            yield pytest.param(code, id=page.name, marks=LONG.get(page.name, ()))


@pytest.mark.parametrize("code", list(blocks()))
def test_the_pages(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {"brn": brn, "keras": keras})


@pytest.mark.any_backend
def test_one_s_own_question_word_for_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "own-question.md").read_text(encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(code, {})
        elif language == "toml":
            Path("photos.toml").write_text(code, encoding="utf-8")
        else:
            assert language == "sh"
            command = [sys.executable, *code.split()[1:]]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path("results/runs/photos").glob("*.json"))) == 6
    assert Path("results/protocols/photos.toml").exists()
    assert list(Path("figures/photos").glob("figure_2.*"))


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("file", "pattern"), [("CITATION.cff", r"^version: (\S+)$"), ("CHANGELOG.md", r"^## (\S+) ")]
)
def test_the_version_is_the_same_everywhere(file, pattern):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(pattern, text, re.MULTILINE)[1] == brn.__version__
