"""The paper's claims, judged by criteria, protocol by protocol."""

from collections.abc import Iterator

from paper_figures import claims
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.exhibits.speed import load_speed
from paper_figures.load import Results

PLACE = 3


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the verdicts of every protocol that has the arms."""
    speed = load_speed(results.folder)
    by_name = {scale.name: scale for scale in results.scales}
    for scale in results.scales:
        if not claims.applies(scale):
            continue
        shorter = by_name.get(claims.SHORTER.get(scale.name))
        table = claims.judge(scale, results.paper, speed, shorter)
        section = Section.of(scale)
        parts = claims.parts(table, scale)
        counted = {heading: claims.count_verdicts(rows) for heading, rows in parts.items()}
        shown = [
            Part(f"**{heading}** {counted[heading]}".strip(), claims.show(rows))
            for heading, rows in parts.items()
        ]
        judged = [f"{heading} {words}" for heading, words in counted.items() if words]
        yield Exhibit(
            section,
            "claims",
            f"The paper's claims, {scale.name}",
            finding=" ".join([*judged, section.cost]),
            tables={"verdicts": (Part(section.cost), *shown, Part(claims.HOLM))},
            numbers={"claims": table},
            claims=True,
        )
