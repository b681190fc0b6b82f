"""The documentation names only what exists: links, paths, functions, commands, parameters, and the picture of the rooms."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.core import params as parameters
from pipeline.core import params_errors
from pipeline.core.paths import Paths
from pipeline.promotion.rules import Candidate, decide
from tests.imports import MODULES, ROOT, closure, direct

TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.splitlines()
PAGES = sorted(ROOT / name for name in TRACKED if name.endswith(".md") and (ROOT / name).exists())
PROSE = [page for page in PAGES if page.parent.name != "bench"]
TOP_LEVEL = {name.split("/")[0] for name in TRACKED}
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SUFFIXES = {".py", ".onnx", ".keras", ".json", ".yaml"}
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def without_code(text: str) -> str:
    """The Markdown `text` without its fenced blocks."""
    return re.sub(r"(?ms)^\s*```.*?^\s*```$", "", text)


def code(page: Path) -> list[str]:
    """Everything in backticks on a page, outside of fenced blocks."""
    return re.findall(r"`([^`]+)`", without_code(page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"(?m)^#+ (.+)$", without_code(page.read_text(encoding="utf-8")))
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    text = without_code(page.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


@every_page
def test_relative_links_and_their_anchors_resolve(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def paths_named(page: Path) -> Iterator[str]:
    """What is in backticks and looks like a file or folder of the repository."""
    for text in code(page):
        if re.fullmatch(r"[\w./-]+", text) and ("/" in text.strip("/") or text.endswith("/") or Path(text).suffix == ".py"):
            name = text.rstrip("/")
            if text.split("/")[0] in TOP_LEVEL | {"requirements"}:
                yield name


def is_written_by_the_pipeline(name: str) -> bool:
    """Whether `name` is a file or folder of pipeline/core/paths.py, or lies in one of its folders, or is of MLflow or DVC."""
    known = {path.as_posix() for path in vars(Paths()).values() if isinstance(path, Path)} - {".", "data"}
    folders = {path for path in known if not Path(path).suffix}
    return (
        name in known or any(Path(name).is_relative_to(folder) for folder in folders) or name.startswith(("mlruns/", ".dvc/"))
    )


@every_page
def test_every_path_in_backticks_exists(page: Path) -> None:
    missing = [name for name in paths_named(page) if not (ROOT / name).exists() and not is_written_by_the_pipeline(name)]

    assert missing == []


@every_page
def test_every_function_is_defined_in_the_file_that_is_named_with_it(page: Path) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    for names, path in re.findall(r"((?:`\w+(?:\(\))?`(?:, | and )?)+) (?:in|of) `(pipeline/[\w/]+\.py)`", text):
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)", names):
            if name not in PARAMS:  # "section `train` of ..." names a section
                assert re.search(rf"(?m)^ *(?:def |class |async def )?{name}\b", source), f"{name} in {path}"


@every_page
def test_every_command_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z]+):", MAKEFILE))

    assert set(re.findall(r"(?m)(?:`|\$ |\|\| |&& |; )make ([a-z]+)", text)) <= targets
    for package, name in re.findall(r"python -m (pipeline|bench)\.([a-z_]+)", text):
        assert (ROOT / package / f"{name}.py").exists(), f"python -m {package}.{name}"


def is_parameter(dotted: str) -> bool:
    node: Any = PARAMS
    for key in dotted.split("."):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


@every_page
def test_every_parameter_exists_under_the_name_that_is_given(page: Path) -> None:
    names = [text for text in code(page) if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", text)]
    dotted = [name for name in names if name.split(".")[0] in PARAMS and Path(name).suffix not in SUFFIXES]
    set_by_command = re.findall(r"-S ([a-z_.]+)=", page.read_text(encoding="utf-8"))

    assert [name for name in [*dotted, *set_by_command] if not is_parameter(name)] == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_uses_an_old_name_of_a_parameter(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    old = {name for dotted in params_errors._RENAMED for name in (dotted, f"`{dotted.split('.')[1]}`")}

    assert [name for name in old if name in text] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_each_page_of_docs_starts_with_a_command(page: Path) -> None:
    title, start = page.read_text(encoding="utf-8").split("\n\n")[:2]

    assert title.startswith("# ")
    assert start.startswith("```console\n$ ")


def room(module: str) -> str:
    return module.split(".")[1]


def rooms_imported() -> dict[str, set[str]]:
    """For each room the other rooms that its modules import."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        if module.count(".") > 1:
            found.setdefault(room(module), set()).update(room(other) for other in direct(module))
    return {name: imported - {name} for name, imported in found.items()}


def reachable(name: str, graph: dict[str, set[str]]) -> set[str]:
    return graph[name].union(*(reachable(other, graph) for other in graph[name]))


def test_the_picture_shows_the_rooms_and_the_imports_that_do_not_follow_from_others() -> None:
    graph = rooms_imported()
    expected = {
        (name, other)
        for name, imported in graph.items()
        for other in imported
        if not any(other in reachable(between, graph) for between in imported - {other})
    }

    picture = re.search(r"(?s)```mermaid\nflowchart TD\n(.*?)```", ARCHITECTURE)
    lines = re.findall(r"(\w+) --> ([\w &]+)", picture[1] if picture else "")
    drawn = {(name, other) for name, others in lines for other in others.split(" & ")}

    assert drawn == expected


def test_every_room_has_a_paragraph_that_names_its_modules() -> None:
    described = ARCHITECTURE.partition("## The rooms")[2].partition("## The stages")[0]
    paragraphs = dict(re.findall(r"(?s)\n\*\*`pipeline/(\w+)/`\*\*(.*?)(?=\n\n)", described))
    modules = [module.split(".") for module in MODULES if module.count(".") > 1]

    assert paragraphs.keys() == rooms_imported().keys()
    missing = [f"{name}/{module}.py" for _, name, module in modules if f"`{module}.py`" not in paragraphs[name]]
    assert [name for name in missing if not name.endswith("errors.py")] == []


def test_the_table_of_stages_has_the_rooms_that_each_stage_imports() -> None:
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| ([\w, ]+) \|", ARCHITECTURE))

    assert {stage: rows[stage].split(", ") for stage in STAGES} == {
        stage: sorted({room(module) for module in closure(f"pipeline.{stage}") if module.count(".") > 1}) for stage in STAGES
    }


def test_every_verb_is_named_in_the_architecture() -> None:
    verbs = {room(module) for module in MODULES if module.count(".") == 1 and not module.endswith("__")}

    assert {verb for verb in verbs if f"`{verb}`" not in ARCHITECTURE} == set()


def test_the_promotion_page_quotes_what_promote_prints() -> None:
    page = (ROOT / "docs" / "promotion.md").read_text(encoding="utf-8")
    metrics = dict.fromkeys(PARAMS["promote"]["minimum"], 0.999) | dict.fromkeys(PARAMS["promote"]["maximum"], 0.003)
    metrics |= {"accuracy": 0.9908, "latency_microseconds": 30.5}
    challenger = Candidate(8, "", "", np.arange(10_000) < 9908, metrics)

    decision = decide(challenger, None, False, parameters.load(ROOT / "params.yaml").promote)

    rules = [f"  met     {rule.rule}: {rule.shown}, expected {rule.bound}" for rule in decision.rules]
    assert f"{rules[0]}\n  ...\n{rules[-1]}\npromote   {decision.sentence}\n" in page
