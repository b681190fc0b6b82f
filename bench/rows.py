"""A row of the results: what was measured, against what, and whether it reaches its mark."""

from typing import NamedTuple

from bench import report

HEADER = ["what", "against", "ratio", "mark", "reached"]


class Row(NamedTuple):
    """`ratio` is to be at least `least`, or at most `most`."""

    what: str
    against: str
    ratio: float
    least: float | None = None
    most: float | None = None

    @property
    def reached(self) -> bool:
        return (self.least is None or self.ratio >= self.least) and (self.most is None or self.ratio <= self.most)

    def cells(self) -> list[str]:
        mark = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return [self.what, self.against, f"{self.ratio:.3g}", mark, "yes" if self.reached else "**no**"]


def table(rows: list[Row]) -> str:
    return report.table(HEADER, [row.cells() for row in rows])


def seconds(taken: dict[str, list[float]], images: int | None = None) -> str:
    """The medians behind the ratios: seconds a turn, and images a second where a turn has as many."""
    import statistics

    rows = []
    for name, times in taken.items():
        median = statistics.median(times)
        rows.append(
            [name, f"{median:.4g}", f"{min(times):.4g} to {max(times):.4g}", f"{images / median:,.0f}" if images else ""]
        )
    return report.table(["contender", "median, s", "range, s", "images/s"], rows)
