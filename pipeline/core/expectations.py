"""What the data must be: Great Expectations suites over one row an image. The only importer of great_expectations."""

import datetime
import math
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
_LOAD_TIME = re.compile(r"\b20\d{6}T\d{6}\.\d{6}Z\b")


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
    expectations = [
        _between(gxe.ExpectTableRowCountToBeBetween, "rows", getattr(params.rows, split)),
        gxe.ExpectColumnDistinctValuesToEqualSet(
            column="label", value_set=labels, **_words("labels", f"each of 0 to {labels[-1]} and no other")
        ),
        gxe.ExpectColumnKLDivergenceToBeLessThan(
            column="label",
            # A class that the other split lacks would make the divergence infinite whatever the bound.
            partition_object={"values": labels, "weights": [max(share, 1e-9) for share in other]},
            threshold=params.class_divergence,
            **_words("class distribution's KL divergence from the other split's", f"at most {params.class_divergence:g}"),
        ),
        _between(gxe.ExpectColumnValuesToBeBetween, "pixel minimum of each image", params.pixel_minimum, column="minimum"),
        _between(gxe.ExpectColumnValuesToBeBetween, "pixel maximum of each image", params.pixel_maximum, column="maximum"),
        _between(gxe.ExpectColumnValuesToBeBetween, "ink fraction of each image", params.ink_fraction, column="ink"),
        gxe.ExpectColumnValuesToBeBetween(column="ink", min_value=0, strict_min=True, **_words("blank images", "none")),
        _between(gxe.ExpectColumnMeanToBeBetween, "mean intensity", params.mean_intensity, column="mean"),
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(
            column="content_hash",
            min_value=1 - params.duplicates,
            **_words("share of images that differ from all others", f"at least {1 - params.duplicates:g}"),
        ),
    ]
    if split == "train":
        expectations.append(
            gxe.ExpectColumnValuesToBeInSet(column="in_test", value_set=[False], **_words("leaked test images", "none"))
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
    return kind(min_value=low, max_value=high, **options, **_words(name, f"{low:g} to {high:g}"))


def check(tables: Mapping[str, pd.DataFrame], suites: Mapping[str, list[Any]], run: str, docs: Path) -> list[Outcome]:
    """Run each suite on the table of the same name, and write the Data Docs to the folder `docs`.

    Args:
        run: names the validation in the Data Docs.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("data")
    results: dict[str, Any] = {}
    with TemporaryDirectory(prefix="data-docs-") as folder:
        for site in context.get_site_names():
            context.delete_data_docs_site(site)
        context.add_data_docs_site("docs", _site(folder))
        for name, table in tables.items():
            definition = context.validation_definitions.add(
                gx.ValidationDefinition(
                    name=name,
                    data=source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all"),
                    suite=context.suites.add(gx.ExpectationSuite(name, expectations=suites[name])),
                )
            )
            checkpoint = context.checkpoints.add(
                gx.Checkpoint(name=name, validation_definitions=[definition], result_format={"result_format": "BASIC"})
            )
            checked = checkpoint.run(
                batch_parameters={"dataframe": table}, run_id=RunIdentifier(run_name=run, run_time=_EPOCH)
            )
            (results[name],) = checked.run_results.values()
        context.build_data_docs()
        _settle(Path(folder))
        shutil.rmtree(Path(folder) / "static")  # 4 MB, of which the pages show none
        shutil.rmtree(docs, ignore_errors=True)
        shutil.copytree(folder, docs)
    return [_outcome(name, result) for name, checked in results.items() for result in checked.results]


def _site(folder: str) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": folder},
    }


def _settle(folder: Path) -> None:
    """Give equal results equal pages: number the random identifiers, take out times and the logo's tracking query."""
    for page in sorted(folder.rglob("*.html")):
        text = _LOAD_TIME.sub("not recorded", _BEACON.sub(r"\1", page.read_text(encoding="utf-8")))
        for number, identifier in enumerate(dict.fromkeys(_UUID.findall(text))):
            text = text.replace(identifier, f"id-{number}")
        page.write_text(text, encoding="utf-8")


def _outcome(suite: str, result: Any) -> Outcome:
    meta = result.expectation_config.meta
    return Outcome(suite, meta["name"], meta["expected"], _observed(result), bool(result.success))


def _observed(result: Any) -> str:
    if result.exception_info.get("raised_exception"):
        return f"a check that could not run: {result.exception_info['exception_message']}"
    found = result.result
    if "element_count" in found:
        examples = dict.fromkeys(_figure(value) for value in found["partial_unexpected_list"] if not isinstance(value, bool))
        count = f"{found['unexpected_count']:,} of {found['element_count']:,} images"
        return f"{count} outside, as with {', '.join(list(examples)[:5])}" if examples else count
    if found.get("observed_value") is None:
        odd, missing = found.get("partial_unexpected_list"), found.get("partial_missing_list")
        return "; ".join(f"{word} {values}" for word, values in (("also", odd), ("not", missing)) if values) or "just these"
    return _figure(found["observed_value"])


def _figure(value: Any) -> str:
    """A number as a person reads it; six digits tell apart what matters and are the same on every machine."""
    if isinstance(value, list):
        return ", ".join(_figure(item) for item in value)
    number = float(value)
    return str(int(number)) if math.isfinite(number) and number == int(number) else f"{number:.6g}"
