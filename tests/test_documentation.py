"""The code that README and documentation show runs as it stands."""

import re
import runpy
from pathlib import Path

import keras
import pytest

import brn

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        code = "".join(BLOCK.findall(page.read_text(encoding="utf-8")))
        if code:
            yield pytest.param(code, id=page.name)


@pytest.mark.parametrize("code", list(blocks()))
def test_the_pages(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {"brn": brn, "keras": keras})


def test_a_schedule_of_your_own(capsys):
    """From 1 to 3 and from 0 to 5, three quarters of the way."""
    runpy.run_path(str(ROOT / "docs" / "recipes" / "own_schedule.py"))
    trained, loaded = capsys.readouterr().out.splitlines()
    assert trained == "after 20 steps: r_max 2.5, d_max 3.75"
    assert loaded == "loaded: ByHalves(start=1.0, end=3.0, half=10) at step 20"


@pytest.mark.parametrize(
    ("file", "pattern"), [("CITATION.cff", r"^version: (\S+)$"), ("CHANGELOG.md", r"^## (\S+) ")]
)
def test_the_version_is_the_same_everywhere(file, pattern):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(pattern, text, re.MULTILINE)[1] == brn.__version__
