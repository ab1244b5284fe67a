"""The paper's claims, judged by criteria, protocol by protocol."""

from collections.abc import Iterator

from paper_figures import claims
from paper_figures.exhibit import Exhibit, Part, Section
from paper_figures.exhibits import headline
from paper_figures.exhibits.speed import load_speed
from paper_figures.load import Results

PLACE = 3


def exhibits(results: Results) -> Iterator[Exhibit]:
    """Give the verdicts of every protocol that has the arms, and those of all in short."""
    speed = load_speed(results.folder)
    by_name = {protocol.name: protocol for protocol in results.protocols}
    judged = {
        protocol.name: (
            protocol,
            claims.judge(
                protocol, results.paper, speed, by_name.get(claims.SHORTER.get(protocol.name))
            ),
        )
        for protocol in results.protocols
        if claims.applies(protocol)
    }
    yield from headline.exhibit(judged)
    for protocol, table in judged.values():
        section = Section.of(protocol)
        parts = claims.parts(table, protocol)
        counted = {heading: claims.count_verdicts(rows) for heading, rows in parts.items()}
        shown = [
            Part(f"**{heading}** {counted[heading]}".strip(), claims.show(rows))
            for heading, rows in parts.items()
        ]
        said = [f"{heading} {words}" for heading, words in counted.items() if words]
        yield Exhibit(
            section,
            "claims",
            f"The paper's claims, {protocol.name}",
            finding=" ".join([*said, section.cost]),
            tables={"verdicts": (Part(section.cost), *shown, Part(claims.HOLM))},
            numbers={"claims": table},
            claims=True,
        )
