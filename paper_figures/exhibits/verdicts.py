"""The paper's claims, judged by criteria written before the runs, protocol by protocol."""

from collections.abc import Iterator

from paper_figures import claims
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.exhibits.speed import load_speed
from paper_figures.load import Results

PLACE = 3


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the verdicts of every protocol that has the arms."""
    speed = load_speed(results.folder)
    for scale in results.scales:
        if claims.applies(scale):
            table = claims.judge(scale, speed.ratios if speed else None)
            section = Section.of(scale)
            counted = f"{claims.count_verdicts(table)}. {section.cost}"
            yield Exhibit(
                section,
                "claims",
                f"The paper's claims, {scale.name}",
                finding=f"Claims, {scale.name}: {claims.count_verdicts(table)}.",
                tables={"verdicts": (Part(counted), Part(table=claims.show(table)))},
                numbers={"claims": table},
                claims=True,
            )
