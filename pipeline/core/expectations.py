"""What the data must be: Great Expectations suites over one row an image. The only importer of great_expectations."""

import datetime
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.base import ProgressBarsConfig

from pipeline.core.params import Bounds, ValidateParams

# Data Docs put the time of their making and random identifiers into their pages, which would change the bytes of an
# unchanged result from run to run.
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BEACON = re.compile(r"(logo-long\.png)\?d=\w+(?:\.\w+)?")
_TIME = re.compile(r"\b20\d{6}T\d{6}\.\d{6}Z\b|\b(?:1969-12-31|1970-01-01)[T ]\d\d:\d\d:\d\d(?:Z| [\w+-]+)")

_UNNAMED = " Data asset: None<br>"  # Great Expectations looks for the name where its older versions put it

_SITE = "docs"
_SMALLEST_SHARE = 1e-9
_NONE = "none"  # what is expected of a column that says whether something is wrong with an image
_EXAMPLES = 3  # images that an error line names


class Outcome(NamedTuple):
    """One expectation and what came of it: `observed` and `expected` are for a person to read."""

    suite: str
    expectation: str
    expected: str
    observed: str
    success: bool


def suite(split: str, other: Sequence[float], classes: Sequence[str], params: ValidateParams) -> list[Any]:
    """The expectations of the `train` or `test` split; `other` holds the class shares of the other split."""
    labels = list(range(len(classes)))
    # A class that the other split lacks would make the divergence infinite whatever the bound; labels that are no class
    # would leave the shares short of 1, which Great Expectations refuses.
    shares = [max(share, _SMALLEST_SHARE) for share in other]
    weights = [share / sum(shares) for share in shares]
    expectations = [
        _between(gxe.ExpectTableRowCountToBeBetween, "rows", getattr(params.rows, split)),
        gxe.ExpectColumnValuesToBeInSet(
            column="label", value_set=labels, **_words("label of each image", f"0 to {labels[-1]}")
        ),
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="label", value_set=labels, **_words("labels in use", f"each of 0 to {labels[-1]}")
        ),
        gxe.ExpectColumnKLDivergenceToBeLessThan(
            column="label",
            partition_object={"values": labels, "weights": weights},
            threshold=params.class_divergence,
            **_words("KL divergence of the classes from the other split's", f"at most {_figure(params.class_divergence)}"),
        ),
        _between(gxe.ExpectColumnValuesToBeBetween, "pixel minimum of each image", params.pixel_minimum, column="minimum"),
        _between(gxe.ExpectColumnValuesToBeBetween, "pixel maximum of each image", params.pixel_maximum, column="maximum"),
        _between(gxe.ExpectColumnValuesToBeBetween, "ink fraction of each image", params.ink_fraction, column="ink"),
        gxe.ExpectColumnValuesToBeBetween(column="ink", min_value=0, strict_min=True, **_words("blank images", _NONE)),
        _between(gxe.ExpectColumnMeanToBeBetween, "mean intensity", params.mean_intensity, column="mean"),
        gxe.ExpectColumnMeanToBeBetween(
            column="repeated",
            max_value=params.duplicates,
            **_words("share of images that repeat an earlier one", f"at most {_figure(params.duplicates)}"),
        ),
    ]
    if split == "train":
        expectations.append(
            gxe.ExpectColumnValuesToBeInSet(column="in_test", value_set=[False], **_words("leaked test images", _NONE))
        )
    return expectations + [
        _between(gxe.ExpectColumnMeanToBeBetween, f"share of class {name}", params.class_share, column=f"is_{label}")
        for label, name in enumerate(classes)
    ]


def _words(name: str, expected: str) -> dict[str, Any]:
    """The description that Data Docs show, and the two halves of it that the report and the error lines show."""
    return {"description": f"{name}: {expected}", "meta": {"name": name, "expected": expected}}


def _between(kind: Any, name: str, bounds: Bounds, **options: Any) -> Any:
    low, high = bounds
    expected = _figure(low) if low == high else f"{_figure(low)} to {_figure(high)}"
    return kind(min_value=low, max_value=high, **options, **_words(name, expected))


def check(tables: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Any]], run: str, docs: Path) -> list[Outcome]:
    """Run each suite on the table of the same name, and write the Data Docs to the folder `docs`.

    Args:
        run: names the validation in the Data Docs.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("data")
    results: dict[str, Any] = {}
    with TemporaryDirectory(prefix="data-docs-") as temporary:
        folder = Path(temporary) / "docs"  # open to other users, as the temporary folder and a copy of it are not
        folder.mkdir()
        for site in context.get_site_names():
            context.delete_data_docs_site(site)
        context.add_data_docs_site(_SITE, _site(str(folder)))
        for name, table in tables.items():
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(
                    name=name,
                    data=source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all"),
                    suite=context.suites.add(gx.ExpectationSuite(name, expectations=suites[name])),
                )
            )
            checkpoint = context.checkpoints.add(
                gx.Checkpoint(name=name, validation_definitions=[definition], result_format={"result_format": "SUMMARY"})
            )
            checked = checkpoint.run(
                batch_parameters={"dataframe": table}, run_id=RunIdentifier(run_name=run, run_time=_EPOCH)
            )
            (results[name],) = checked.run_results.values()
        context.build_data_docs()
        _settle(folder)
        _link(folder)
        shutil.rmtree(folder / "static")  # 4 MB, of which the pages show none
        shutil.rmtree(docs, ignore_errors=True)
        shutil.copytree(folder, docs)
    return [_outcome(name, result) for name, checked in results.items() for result in checked.results]


def _site(folder: str) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
    }


def _settle(folder: Path) -> None:
    """Give equal results equal pages: number the random identifiers, take out times and the logo's tracking query."""
    for page in sorted(folder.rglob("*.html")):
        text = _TIME.sub("time not recorded", _BEACON.sub(r"\1", page.read_text(encoding="utf-8")))
        for number, identifier in enumerate(dict.fromkeys(_UUID.findall(text))):
            text = text.replace(identifier, f"id-{number}")
        page.write_text(text.replace(_UNNAMED, ""), encoding="utf-8")


def _link(folder: Path) -> None:
    """Name the pages in the heading of the index, whose table is drawn by scripts from the internet."""
    index = folder / "index.html"
    pages = {page.relative_to(folder).parts[1]: page.relative_to(folder) for page in folder.glob("validations/**/*.html")}
    links = " | ".join(f'<a href="{page.as_posix()}">{name} split</a>' for name, page in sorted(pages.items(), reverse=True))
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace(f"</strong> | {_SITE}", f"</strong> | {links}"), encoding="utf-8")


def _outcome(suite: str, result: Any) -> Outcome:
    meta = result.expectation_config.meta
    return Outcome(suite, meta["name"], meta["expected"], _observed(result, meta["expected"]), bool(result.success))


def _observed(result: Any, expected: str) -> str:
    # Flat where all went well, and keyed by the metrics that failed where not.
    for failure in result.exception_info.values():
        if isinstance(failure, dict):
            return f"a check that could not run: {failure['exception_message']}"
    found = result.result
    if "element_count" in found:
        return _images(found, with_values=expected != _NONE)
    if "missing_count" in found:
        return ", ".join(f"no {label}" for label in found["partial_missing_list"]) or "each"
    return "infinite" if found["observed_value"] is None else _figure(found["observed_value"])


def _images(found: Mapping[str, Any], with_values: bool) -> str:
    """How many images broke an expectation of each, and which: `2 of 3,000 images outside: #17 (0), #40 (12)`."""
    count = f"{found['unexpected_count']:,} of {found['element_count']:,} images"
    indices, values = found["partial_unexpected_index_list"], found["partial_unexpected_list"]
    examples = [
        f"#{index} ({_figure(value)})" if with_values else f"#{index}"
        for index, value in zip(indices[:_EXAMPLES], values, strict=False)
    ]
    if not examples:
        return count
    more = ["…"] if found["unexpected_count"] > len(examples) else []
    return f"{count}{' outside' if with_values else ''}: {', '.join(examples + more)}"


def _figure(value: float) -> str:
    """A number as a person reads it; five digits tell apart what matters and are the same on every machine."""
    return f"{int(value):,}" if value == int(value) else f"{value:.5g}"
