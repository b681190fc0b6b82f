"""A row of the results: a ratio, its reference, and whether it meets its target."""

from typing import NamedTuple

from bench import report

HEADER = ["measured", "compared with", "ratio", "target", "met"]


class Row(NamedTuple):
    """The target of `ratio` is at least `least`, or at most `most`."""

    what: str
    against: str
    ratio: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        return (self.least is None or self.ratio >= self.least) and (self.most is None or self.ratio <= self.most)

    def cells(self) -> list[str]:
        target = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return [self.what, self.against, f"{self.ratio:.3g}", target, "yes" if self.met else "**no**"]


def table(rows: list[Row]) -> str:
    return report.table(HEADER, [row.cells() for row in rows])


def seconds(taken: dict[str, list[float]], images: int | None = None) -> str:
    """The medians behind the ratios: seconds per round, and images per second if each round has `images`."""
    import statistics

    rows = []
    for name, times in taken.items():
        median = statistics.median(times)
        rows.append(
            [name, f"{median:.4g}", f"{min(times):.4g} to {max(times):.4g}", f"{images / median:,.0f}" if images else ""]
        )
    return report.table(["contender", "median, s", "range, s", "images/s"], rows)
