"""Sources that stall, break off, lie or never end: fetch takes the next, or says in time why there is none."""

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
from pipeline.core.params import FilesParams, Params
from pipeline.core.paths import Paths
from pipeline.data.datasets import Split
from pipeline.data.errors import MismatchError
from pipeline.ingestion.errors import NoSourceError
from tests import web
from tests.chaos.conftest import Chaos
from tests.conftest import NAMES, SMALL, Edit, idx, write_source
from tests.test_fetch import HTML, Data, contents, pinned, publish, run_stage
from tests.web import Answer, Site

KIND = "Sources"
TIMEOUT, DEADLINE = 0.4, 1.5
LATE = 10  # seconds: more than the limits above allow by far, and less than any of the sources here would take

_HEAD = gzip.compress(b"", 1)[:10]


class Tree(NamedTuple):
    """A tree with older data in place, and a folder `next` that has the data wanted."""

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
    """Whether fetch went on to the next source or ended with one clear error, in time; and whether it lost something."""
    raw = Paths().raw
    shutil.rmtree(raw)
    shutil.copytree("kept", raw)
    params = tree.of(*([source, "next"] if with_next else [source]))
    start = time.monotonic()
    try:
        said = fetch.run(params, Paths())
        survived = with_next and said.endswith("next")
        right = {key: hashlib.sha256(idx(np.load(raw / f"{key}.npy"))).hexdigest() for key in NAMES} == {
            key: getattr(params.fetch.files, key).sha256 for key in NAMES
        }
    except NoSourceError as error:
        survived = not with_next and re.search(reason, str(error)) is not None
        right = contents(raw) == contents(Path("kept"))
    took = time.monotonic() - start
    return survived and took < LATE, not right or [path.name for path in raw.parent.iterdir()] != ["raw"]


Fault = Callable[[bytes, np.random.Generator], Answer]
BROKEN = "the connection broke off|Connection reset by peer|truncated or corrupt gzip data"
FAULTS: dict[str, tuple[Fault, str, tuple[int, int]]] = {
    "stalls before the head": (lambda body, draw: web.stalling_head, "no answer in time", (1, 30)),
    "drips a head without end": (lambda body, draw: web.dripping_head, "fetch.deadline", (1, 30)),
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
    "sends part of the file as the whole": (
        lambda body, draw: web.content(body[: int(draw.integers(len(body)))]),
        "truncated or corrupt gzip data|expected an IDX header",
        (5, 200),
    ),
    "sends a page with status 200": (lambda body, draw: web.content(HTML), "expected the magic number", (2, 200)),
    "redirects in a loop": (lambda body, draw: web.redirect("/loop"), "redirects without end", (2, 50)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_at_fault_is_left_for_the_next_or_named(fault: str, tree: Tree, site: Site, chaos: Chaos) -> None:
    answer, reason, often = FAULTS[fault]
    tries, outcomes, draw = chaos.tries(*often), [], np.random.default_rng(0)
    site.answers["/loop"] = web.redirect("/loop")
    for _ in range(tries):
        publish(site, tree.data)
        key = str(draw.choice(list(NAMES)))
        split, kind = key.split("_")
        hostile = answer(gzip.compress(idx(getattr(tree.data[split], kind))), draw)
        site.answers |= {f"/{NAMES[key]}.gz": hostile, f"/{NAMES[key]}": hostile}
        outcomes += [survives(tree, site.url, with_next, reason) for with_next in (True, False)]

    chaos.count(KIND, fault, len(outcomes), sum(ok for ok, _ in outcomes), sum(lost for _, lost in outcomes))


def test_a_redirect_out_of_encryption_is_not_followed(
    tree: Tree, site: Site, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = web.write_certificate(Path("certificate.pem").absolute())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    publish(site, tree.data)
    with web.serving(certificate) as safe:
        for name in NAMES.values():
            safe.answers[f"/{name}.gz"] = web.redirect(f"{site.url}{name}.gz")
        tries = chaos.tries(1, 50)
        outcomes = [
            survives(tree, safe.url, with_next, "redirects from https to http")
            for _ in range(tries)
            for with_next in (True, False)
        ]
        asked = len(safe.asked)

    assert asked == 2 * tries  # the certificate is accepted, and the answer is what is refused
    assert site.asked == []
    chaos.count(
        KIND, "redirects from https to http", 2 * tries, sum(ok for ok, _ in outcomes), sum(bad for _, bad in outcomes)
    )


@pytest.mark.parametrize("hashes", ["pinned", "not pinned"])
def test_a_source_that_changes_between_two_requests(hashes: str, tree: Tree, site: Site, chaos: Chaos) -> None:
    """Without pinned hashes, what gives it away is that labels and images are no longer as many."""
    newer = {name: Split(split.images[:-1], split.labels[:-1]) for name, split in tree.data.items()}
    names = list(NAMES.values())[:3]  # after the last nothing more is asked for
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
    """The gzip file of `first` and 10 GB of zeros, in pieces, in as many layers: none of it is ever there as a whole."""
    block, count = bytes(1 << 20), 10 << 10
    for _ in range(layers):
        # What follows a full flush knows nothing of what came before: the block can be repeated.
        first, block, count = _HEAD + _flushed(first), _flushed(block) * 64, count // 64
    return chain([first], repeat(block, count))


def _flushed(block: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)


MOST = 12_000_000
ANNOUNCED = idx(np.empty((0, 1000, 1000), np.uint8))[:4] + np.array([MOST // 1_000_000, 1000, 1000], ">u4").tobytes()
ENCODED = ("Content-Encoding", "gzip")
TWICE = ("Content-Encoding", "gzip, gzip")
ELSEWHERE = ("Location", "/absent")
BOMBS: dict[str, tuple[Callable[[], Answer], str]] = {
    "a gzip file": (lambda: web.chunked(_zeros(ANNOUNCED)), "more: trailing bytes follow"),
    "an encoding": (lambda: web.chunked(_zeros(ANNOUNCED), ENCODED), "fetch.max_bytes"),
    "an encoding in an encoding": (lambda: web.chunked(_zeros(ANNOUNCED, 2), TWICE), "fetch.max_bytes|fetch.deadline|in time"),
    "a redirect that is as long": (lambda: web.chunked(repeat(bytes(1 << 16)), ELSEWHERE, code=302), "has no"),
    "no end": (lambda: web.chunked(repeat(bytes(1 << 16))), "fetch.max_bytes|fetch.deadline"),
    "a name in a gzip file": (
        lambda: web.content(_HEAD[:3] + b"\x08" + _HEAD[4:] + b"x" * (MOST - 10)),
        "fetch.deadline|gzip",
    ),
    "zeros after a gzip file": (lambda: web.content(gzip.compress(ANNOUNCED) + bytes(MOST - 100)), "fetch.deadline|truncated"),
}


def test_what_has_no_end_is_bounded_in_time_memory_and_on_disk(tree: Tree, site: Site, chaos: Chaos) -> None:
    """In a process of its own, in which no file may grow beyond fetch.max_bytes, and which tells its memory at the end."""
    prelude = (
        "import atexit, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({MOST + 2048},) * 2)\n"
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
        tree.edit({"fetch.sources": list(sources.values()), "fetch.max_bytes": MOST})
        start = time.monotonic()

        done = run_stage(prelude)

        took = time.monotonic() - start
        *error, memory = done.stderr.splitlines()
        bounded = took < 2 * DEADLINE * len(BOMBS) + LATE and int(memory) - plain < 50_000
        for name, (_form, reason) in BOMBS.items():
            said = [line for line in error if line.startswith(f"  {sources[name]}: ")]
            survived += bounded and len(said) == 1 and re.search(reason, said[0]) is not None
        lost += [path.name for path in Path("data").rglob("*")] != ["raw"]
    chaos.count(KIND, "sends 10 GB from a few MB, or has no end", tries * len(BOMBS), survived, lost)
