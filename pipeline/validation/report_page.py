"""The validation report as one HTML file that needs nothing from elsewhere: what is bounded, what was found, and pictures."""

import base64
import html
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.datasets import Pixels, Split
from pipeline.validation.outcomes import Measured, Outcome, subject

_STYLE = Path(__file__).parent / "web" / "report.css"
_MARGIN = 0.05  # of the track of a bar, beyond the bounds and the values
_SIDE = 64  # pixels: larger images are shown by every second, third ... pixel
_MOST_CLASSES = 20  # of which an image is shown


def render(manifest: Mapping[str, Any], outcomes: Sequence[Outcome], data: Mapping[str, Split], classes: Sequence[str]) -> str:
    """The page, the same bytes for the same outcomes and images.

    Args:
        data: by the name of each suite, the images and labels that it checks, in the order of its table.
        classes: the names of the labels.
    """
    title = f"Data validation: {html.escape(manifest['dataset'])}"
    named = {f"e{number}": each for number, each in enumerate(outcomes)}
    suites = dict.fromkeys(each.suite for each in outcomes)
    sections = [_section(suite, named, data[suite], classes) for suite in suites]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n<h1>{title}</h1>\n"
        f"{_verdict(named)}"
        f'<p class="muted">Data fingerprint {manifest["fingerprint"]}</p>\n{"".join(sections)}</html>\n'
    )


def _verdict(named: Mapping[str, Outcome]) -> str:
    """Whether the data passed, and a link to each broken expectation. `named` has the outcomes by their anchor."""
    broken = {name: each for name, each in named.items() if not each.success}
    if not broken:
        return f'<p class="verdict met">All {len(named)} expectations are met.</p>\n'
    lines = [f'<li><a href="#{name}">{html.escape(f"{it.subject}, {it.expectation}")}</a>' for name, it in broken.items()]
    verb = "is" if len(broken) == 1 else "are"
    return (
        f'<p class="verdict broken">{len(broken)} of {len(named)} expectations {verb} broken: training does not start.</p>\n'
        f"<ul>{''.join(lines)}</ul>\n"
    )


def _section(suite: str, named: Mapping[str, Outcome], split: Split, classes: Sequence[str]) -> str:
    """The outcomes of a suite as a table, below an image of each class."""
    _, firsts = np.unique(split.labels, return_index=True)
    examples = _pictures([(int(row), f"#{row}") for row in firsts[:_MOST_CLASSES]], split, classes)
    head = "<thead><tr><th><th>expectation<th>expected<th>found<th>as a bar</thead>"
    rows = "".join(_row(name, each, split, classes) for name, each in named.items() if each.suite == suite)
    return (
        f"<h2>{html.escape(subject(suite))}</h2>\n<p>{len(split.labels):,} images. The first of each class:</p>\n"
        f"{examples}\n<table>{head}\n<tbody>\n{rows}</tbody></table>\n"
    )


def _row(name: str, outcome: Outcome, split: Split, classes: Sequence[str]) -> str:
    state, sign = ("met", "✓") if outcome.success else ("broken", "✗")
    below = f"<p>{html.escape(outcome.remedy)}</p>" if outcome.remedy else ""
    if outcome.images:
        shown = f"{len(outcome.images)} of these images" if outcome.success else "images that broke it"
        pictures = _pictures(outcome.images, split, classes)
        below += f"<details{'' if outcome.success else ' open'}><summary>{shown}</summary>{pictures}</details>"
    more = f'<tr><td class="sign"><td colspan="4">{below}\n' if below else ""
    return (
        f'<tr id="{name}"><td class="sign {state}">{sign}<td class="name">{html.escape(outcome.expectation)}'
        f'<td data-title="expected">{html.escape(outcome.expected)}'
        f'<td data-title="found"{"" if outcome.success else " class=broken"}>{html.escape(outcome.observed)}'
        f'<td class="bar {state}">{_bar(outcome.measured) if outcome.measured else ""}\n{more}'
    )


def _bar(measured: Measured) -> str:
    """A track on which the allowed range is a band, and the value, or the spread of the values, a mark."""
    low, high, least, most = measured
    start = min(value for value in (low, least, 0.0 if low is None else None) if value is not None)
    stop = max(value for value in (high, most) if value is not None)
    length = (stop - start) or 1.0
    start, length = start - (_MARGIN * length if start else 0), length * (1 + 2 * _MARGIN)

    def at(value: float) -> float:
        return round(100 * (value - start) / length, 2)

    band = (at(start if low is None else low), at(start + length if high is None else high))
    kind = "value" if least == most else "value spread"
    spans = (("allowed", *band), (kind, at(least), at(most)))
    drawn = "".join(
        f'<span class="{name}" style="left:{left}%;width:{round(right - left, 2)}%"></span>' for name, left, right in spans
    )
    return f'<div class="track">{drawn}</div>'


def _pictures(images: Sequence[tuple[int, str]], split: Split, classes: Sequence[str]) -> str:
    """Images by row and name, each with its label."""
    figures = []
    for row, name in images:
        label = int(split.labels[row])
        known = classes[label] if label < len(classes) else f"label {label}"
        caption = html.escape(f"{name}: {known}")
        source = base64.b64encode(png(split.images[row])).decode()
        figures.append(f'<figure><img alt="" src="data:image/png;base64,{source}"><figcaption>{caption}</figcaption></figure>')
    return f'<div class="pictures">{"".join(figures)}</div>'


def png(image: Pixels) -> bytes:
    """A grey image `(height, width)` uint8 as PNG, not compressed: the bytes do not depend on the version of zlib."""
    step = -(-max(image.shape) // _SIDE)
    small = np.ascontiguousarray(image[::step, ::step])
    height, width = small.shape
    lines = b"".join(b"\0" + line.tobytes() for line in small)
    size = struct.pack("<HH", len(lines), len(lines) ^ 0xFFFF)
    stored = b"\x78\x01\x01" + size + lines + struct.pack(">I", zlib.adler32(lines))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stored) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
