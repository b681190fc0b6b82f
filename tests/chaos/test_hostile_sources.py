"""Sources that stall, disconnect, send wrong data or never end: fetch uses the next one, or fails in time with the reason."""

import gzip
import hashlib
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from pipeline import fetch
from pipeline.core.fetch_params import FilesParams
from pipeline.core.params import Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.data.errors import MismatchError
from pipeline.ingestion.errors import NoSourceError
from tests import web
from tests.chaos.conftest import LONG, Chaos
from tests.conftest import NAMES, SMALL, Edit, idx, write_source
from tests.test_fetch import HTML, Data, contents, pinned, publish, run_stage
from tests.web import Answer, Site

KIND = "Sources"
TIMEOUT, DEADLINE = 0.4, 1.5
LATE = 10  # seconds: far above the limits, and below what these sources would take without them

_HEAD = gzip.compress(b"", 1)[:10]


class Tree(NamedTuple):
    """A tree with older data in place, and a folder `next` with the wanted data."""

    params: Params
    data: Data
    edit: Edit

    def of(self, *sources: str, **changes: object) -> Params:
        """The parameters with these sources, and other changes to section `fetch`."""
        return self.params.model_copy(update={"fetch": self.params.fetch.model_copy(update={"sources": sources, **changes})})


@pytest.fixture
def data(subset: Data) -> Data:
    return {
        name: Split(subset[name].images[:count], subset[name].labels[:count]) for name, count in (("train", 30), ("test", 9))
    }


@pytest.fixture
def tree(edit: Edit, data: Data, tmp_path: Path) -> Tree:
    write_source(tmp_path / "older", {name: Split(255 - split.images, split.labels) for name, split in data.items()})
    fetch.run(edit(SMALL | {"fetch.sources": ["older"]}), Paths())
    shutil.copytree("data/raw", "kept")
    write_source(tmp_path / "next", data)
    limits = {"fetch.sources": ["next"], "fetch.timeout": TIMEOUT, "fetch.deadline": DEADLINE}
    return Tree(edit(pinned(data) | limits), data, edit)


def survives(tree: Tree, source: str, with_next: bool, reason: str) -> tuple[bool, bool]:
    """Whether fetch used the next source or failed with the `reason`, in time; and whether it damaged any data."""
    raw = Paths().raw
    shutil.rmtree(raw)
    shutil.copytree("kept", raw)
    params = tree.of(*([source, "next"] if with_next else [source]))
    start = time.monotonic()
    try:
        result = fetch.run(params, Paths())
        survived = with_next and result.endswith("next")
        intact = {key: hashlib.sha256(idx(np.load(raw / f"{key}.npy"))).hexdigest() for key in NAMES} == {
            key: getattr(params.fetch.files, key).sha256 for key in NAMES
        }
    except NoSourceError as error:
        survived = not with_next and re.search(reason, str(error)) is not None
        intact = contents(raw) == contents(Path("kept"))
    took = time.monotonic() - start
    return survived and took < LATE, not intact or [path.name for path in raw.parent.iterdir()] != ["raw"]


Fault = Callable[[bytes, np.random.Generator], Answer]
BROKEN = "the connection broke off|Connection reset by peer|truncated or corrupt gzip data"
FAULTS: dict[str, tuple[Fault, str, tuple[int, int]]] = {
    "stalls before the headers": (lambda body, draw: web.stalling_head, "no answer in time", (1, 30)),
    "drips endless headers": (lambda body, draw: web.dripping_head, "fetch.deadline", (1, 30)),
    "stalls in the body": (
        lambda body, draw: web.stalling(body, int(draw.integers(len(body)))),
        "no answer in time",
        (1, 50),
    ),
    "drips the body": (lambda body, draw: web.dripping(body + bytes(10_000)), "fetch.deadline", (1, 30)),
    "resets the connection in the body": (lambda body, draw: web.reset(body, int(draw.integers(len(body)))), BROKEN, (5, 200)),
    "closes the connection in the body": (
        lambda body, draw: web.truncated(body, int(draw.integers(len(body)))),
        BROKEN,
        (5, 200),
    ),
    "ends the chunks in the body": (
        lambda body, draw: web.chunked([body[: 1 + int(draw.integers(len(body) - 1))]], complete=False),
        BROKEN,
        (5, 200),
    ),
    "sends a truncated file as complete": (
        lambda body, draw: web.content(body[: int(draw.integers(len(body)))]),
        "truncated or corrupt gzip data|expected an IDX header",
        (5, 200),
    ),
    "sends a page with status 200": (lambda body, draw: web.content(HTML), "expected the magic number", (2, 200)),
    "redirects in a loop": (lambda body, draw: web.redirect("/loop"), "redirects without end", (2, 50)),
}


SLOW = ("drips endless headers", "drips the body")  # several seconds each; "stalls" and endless data are tried in `make test`


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if LONG or fault not in SLOW])
def test_a_faulty_source_is_replaced_by_the_next_or_reported(fault: str, tree: Tree, site: Site, chaos: Chaos) -> None:
    answer, reason, counts = FAULTS[fault]
    tries, outcomes, draw = chaos.tries(*counts), [], np.random.default_rng(0)
    site.answers["/loop"] = web.redirect("/loop")
    for _ in range(tries):
        publish(site, tree.data)
        key = str(draw.choice(list(NAMES)))
        split, kind = key.split("_")
        hostile = answer(gzip.compress(idx(getattr(tree.data[split], kind))), draw)
        site.answers |= {f"/{NAMES[key]}.gz": hostile, f"/{NAMES[key]}": hostile}
        outcomes += [survives(tree, site.url, with_next, reason) for with_next in (True, False)]

    chaos.count(KIND, fault, len(outcomes), sum(ok for ok, _ in outcomes), sum(lost for _, lost in outcomes))


def test_a_redirect_from_https_to_http_is_not_followed(
    tree: Tree, site: Site, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = web.write_certificate(Path("certificate.pem").absolute())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    publish(site, tree.data)
    with web.serving(certificate) as secure:
        for name in NAMES.values():
            secure.answers[f"/{name}.gz"] = web.redirect(f"{site.url}{name}.gz")
        tries = chaos.tries(1, 50)
        outcomes = [
            survives(tree, secure.url, with_next, "redirects from https to http")
            for _ in range(tries)
            for with_next in (True, False)
        ]
        asked = len(secure.asked)

    assert asked == 2 * tries  # the certificate is accepted; fetch refuses the redirect
    assert site.asked == []
    chaos.count(
        KIND, "redirects from https to http", 2 * tries, sum(ok for ok, _ in outcomes), sum(bad for _, bad in outcomes)
    )


@pytest.mark.parametrize("hashes", ["pinned", "not pinned"])
def test_a_source_that_changes_between_two_requests_is_refused(hashes: str, tree: Tree, site: Site, chaos: Chaos) -> None:
    """Without pinned hashes, the unequal numbers of images and labels reveal the change."""
    newer = {name: Split(split.images[:-1], split.labels[:-1]) for name, split in tree.data.items()}
    names = list(NAMES.values())[:3]  # no request follows the last one
    tries, survived, lost, draw = chaos.tries(3, 200), 0, 0, np.random.default_rng(0)
    for _ in range(tries):
        publish(site, tree.data)
        last = str(draw.choice(names if hashes == "pinned" else [names[0], names[2]]))

        def change(handler: web.Handler, last: str = last, body: Answer = site.answers[f"/{last}.gz"]) -> None:
            publish(site, newer)
            body(handler)

        site.answers[f"/{last}.gz"] = change
        if hashes == "pinned":
            ok, bad = survives(tree, site.url, draw.random() < 0.5, "expected content with SHA-256")
        else:
            ok, bad = _mismatched(tree, site)
        survived, lost = survived + ok, lost + bad

    chaos.count(KIND, f"changes between two files, hashes {hashes}", tries, survived, lost)


def _mismatched(tree: Tree, site: Site) -> tuple[bool, bool]:
    before = contents(Paths().raw)
    files = {key: getattr(tree.params.fetch.files, key).model_copy(update={"sha256": None}) for key in NAMES}
    try:
        fetch.run(tree.of(site.url, files=FilesParams(**files)), Paths())
    except MismatchError as error:
        return "a label for each image" in str(error), contents(Paths().raw) != before
    return False, True


def _zeros(first: bytes, layers: int = 1) -> Iterator[bytes]:
    """A gzip file of `first` and 10 GB of zeros, compressed `layers` times, in chunks so that it needs little memory."""
    block, count = bytes(1 << 20), 10 << 10
    for _ in range(layers):
        # Data after a full flush does not refer to earlier data, so the block can be repeated.
        first, block, count = _HEAD + _flushed(first), _flushed(block) * 64, count // 64
    return chain([first], repeat(block, count))


def _flushed(block: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)


MAX_BYTES = 12_000_000
HEADER = idx(np.empty((0, 1000, 1000), np.uint8))[:4] + np.array([MAX_BYTES // 1_000_000, 1000, 1000], ">u4").tobytes()
ENCODED = ("Content-Encoding", "gzip")
TWICE = ("Content-Encoding", "gzip, gzip")
ELSEWHERE = ("Location", "/absent")
BOMBS: dict[str, tuple[Callable[[], Answer], str]] = {
    "a gzip file": (lambda: web.chunked(_zeros(HEADER)), "more: trailing bytes follow"),
    "an encoding": (lambda: web.chunked(_zeros(HEADER), ENCODED), "fetch.max_bytes"),
    "an encoding in an encoding": (lambda: web.chunked(_zeros(HEADER, 2), TWICE), "fetch.max_bytes|fetch.deadline|in time"),
    "an endless body of a redirect": (lambda: web.chunked(repeat(bytes(1 << 16)), ELSEWHERE, code=302), "has no"),
    "an endless body": (lambda: web.chunked(repeat(bytes(1 << 16))), "fetch.max_bytes|fetch.deadline"),
    "a long file name in a gzip header": (
        lambda: web.content(_HEAD[:3] + b"\x08" + _HEAD[4:] + b"x" * (MAX_BYTES - 10)),
        "fetch.deadline|gzip",
    ),
    "zeros after a gzip file": (
        lambda: web.content(gzip.compress(HEADER) + bytes(MAX_BYTES - 100)),
        "fetch.deadline|truncated",
    ),
}


@pytest.mark.skipif(not LONG, reason="downloads until a bound is met")
def test_endless_data_is_bounded_in_time_memory_and_disk_space(tree: Tree, site: Site, chaos: Chaos) -> None:
    """In a process that cannot write files beyond fetch.max_bytes, and that prints its peak memory at the end."""
    prelude = (
        "import atexit, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({MAX_BYTES + 2048},) * 2)\n"
        "kilobyte = 1024 if sys.platform == 'darwin' else 1\n"
        "atexit.register(lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // kilobyte, file=sys.stderr))"
    )
    plain = int(run_stage(prelude).stderr)
    tries, survived, lost = chaos.tries(1, 5), 0, 0
    for _ in range(tries):
        shutil.rmtree("data")
        sources = {name: f"{site.url}{number}" for number, name in enumerate(BOMBS)}
        for name, (form, _reason) in BOMBS.items():
            site.answers[f"{sources[name].removeprefix(site.url[:-1])}/{NAMES['train_images']}.gz"] = form()
        tree.edit({"fetch.sources": list(sources.values()), "fetch.max_bytes": MAX_BYTES})
        start = time.monotonic()

        done = run_stage(prelude)

        took = time.monotonic() - start
        *error, memory = done.stderr.splitlines()
        bounded = took < 2 * DEADLINE * len(BOMBS) + LATE and int(memory) - plain < 50_000
        for name, (_form, reason) in BOMBS.items():
            lines = [line for line in error if line.startswith(f"  {sources[name]}: ")]
            survived += bounded and len(lines) == 1 and re.search(reason, lines[0]) is not None
        lost += [path.name for path in Path("data").rglob("*")] != ["raw"]
    chaos.count(KIND, "expands a few MB to 10 GB, or never ends", tries * len(BOMBS), survived, lost)
