"""The library of the Hugging Face Hub reads the model card, and finds in it what was measured."""

import pytest
from huggingface_hub import ModelCard

from pipeline.core import files
from pipeline.evaluation import front_matter
from tests.conftest import Repository

METRICS = {"accuracy": 0.9908, "worst_recall": 0.98, "log_loss": 0.0267, "calibration_error": 0.0016}


def card(dataset: str, licence: str) -> ModelCard:
    metadata = front_matter.render({"dataset": dataset, "licence": licence}, METRICS)
    return ModelCard(f"{metadata}\n# Title\n")


def test_the_hub_reads_the_card_of_a_pipeline_run(built: Repository) -> None:
    metrics = files.read_json(built.paths.metrics)

    loaded = ModelCard.load(built.paths.model_card)

    data = loaded.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-sa-3.0", "onnx", "image-classification")
    assert "onnx" in data.tags
    assert data.model_name == "mnist"
    measured = {each.metric_type: each for each in data.eval_results}
    assert {name: each.metric_value for name, each in measured.items()} == {name: metrics[name] for name in METRICS}
    assert {(each.task_type, each.dataset_name, each.dataset_split) for each in data.eval_results} == {
        ("image-classification", "mnist", "test")
    }
    assert loaded.text.lstrip().startswith("# Model card: mnist\n")


@pytest.mark.parametrize(
    "dataset", ["hats: a & b", "- 'x' \"y\"", "#1 {a}", "Größe 🙂", "true", "a" * 300 + " b" * 100, "2026-01-01"]
)
def test_names_of_any_kind_survive(dataset: str) -> None:
    loaded = card(dataset, f"of {dataset}")

    assert loaded.data.model_name == dataset
    assert loaded.data.license_name == f"of {dataset}"
    assert {each.dataset_name for each in loaded.data.eval_results} == {dataset}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC BY-SA 3.0, Yann LeCun", "cc-by-sa-3.0"),
        ("CC0", "cc0-1.0"),
        ("MIT", "mit"),
        ("Apache-2.0", "apache-2.0"),
        ("of the museum", "other"),
        ("CC BY-SA 9.0", "other"),
    ],
)
def test_the_licence_is_one_that_the_hub_knows(licence: str, expected: str) -> None:
    data = card("hats", licence).data

    assert data.license == expected
    assert data.get("license_name") == (licence if expected == "other" else None)
