"""The code that README and documentation show runs as it stands, and their links lead somewhere."""

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
            for line in code.splitlines():
                command = [sys.executable, *line.split()[1:]]
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


PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("results/*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """What one can link to in a page: its headings, as GitHub and MyST name them."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    for included in re.findall(r"^```{include} (\S+)", text, re.MULTILINE):
        headings += anchors((page.parent / included).resolve())
    return [re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in headings]


@pytest.mark.any_backend
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"^```(?!{).*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.any_backend
def test_the_readme_is_short_and_shows_its_picture_first():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130
    pictures = [number for number, line in enumerate(lines, 1) if line.startswith("![")]
    assert pictures[0] < 40


@pytest.mark.any_backend
@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_picture_is_of_as_many_seeds_as_the_page_says(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    captions = (ROOT / "paper_figures/output/tiny_imagenet/captions.md").read_text("utf-8")
    (caption,) = re.findall(r"^Group size\..*", captions, re.MULTILINE)
    said = set(re.findall(r"n = \d+ seeds", text.partition("<!-- file")[0]))
    assert said
    assert all(words in caption for words in said)
