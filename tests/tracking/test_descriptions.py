"""What people read in a real MLflow store: names of runs, and descriptions."""

from typing import Any

import mlflow
import pytest

from pipeline import register
from pipeline.core import files
from pipeline.core.intervals import with_interval
from pipeline.tracking import descriptions
from pipeline.tracking.connection import connected
from tests.champions import NAME, another, champions_root, client, repository, variant
from tests.conftest import Repository
from tests.test_promote import challenge

__all__ = ["champions_root", "client", "repository"]

NOTE = "mlflow.note.content"


def registered(repository: Repository, client: Any) -> Any:
    return client.get_run(files.read_json(repository.paths.registration)["run_id"])


def lines(run: Any) -> list[str]:
    return [line for line in run.data.tags[NOTE].splitlines() if line.startswith("- ")]


def test_a_run_has_a_name_and_a_description_that_say_something(built: Repository) -> None:
    client, metrics = mlflow.MlflowClient(built.paths.tracking_uri), files.read_json(built.paths.metrics)

    run = registered(built, client)

    assert run.info.run_name == f"{metrics['accuracy']:.2%} seed {built.params.train.seed}"
    assert lines(run) == [
        "- **Data:** mnist, 3,000 training images, 1,000 test images; 1 expectations met",
        f"- **Accuracy:** {with_interval(metrics['accuracy'], 1000)} on 1,000 test images; "
        f"{metrics['int8']['accuracy']:.2%} in int8",
        "- **Changed:** there was no champion to compare with",
    ]


def test_the_model_card_describes_the_version_and_a_model_without_a_champion(built: Repository) -> None:
    client, card = mlflow.MlflowClient(built.paths.tracking_uri), built.paths.model_card.read_text()
    assert "\n# Model card: mnist\n" in f"\n{card}"

    version = client.get_model_version(NAME, "1").description
    model = client.get_registered_model(NAME).description

    assert version.startswith("# Model card: mnist\n\n## Intended use\n")
    assert "## Results\n" in version
    assert "## Results\n" in model
    assert len(version) <= 5000


def test_the_description_of_a_run_names_what_changed_since_the_champion(repository: Repository, client: Any) -> None:
    run_id = client.get_model_version_by_alias(NAME, "champion").run_id
    before = client.get_run(run_id).data.params

    challenge(variant(repository, 0.4), another, seed=5)

    assert lines(registered(repository, client))[2] == (
        f"- **Changed** since champion version 2: `export.int8_agreement` {before['export.int8_agreement']} → 0.4; "
        f"`train.seed` {before['train.seed']} → 5"
    )


def test_the_accuracy_on_recent_images_is_named(repository: Repository, client: Any) -> None:
    metrics = files.read_json(repository.paths.metrics)
    files.write_json(repository.paths.metrics, {**metrics, "slices": {"week 1": {"images": 100, "accuracy": 0.9}}})

    register.run(repository.params, repository.paths)

    assert lines(registered(repository, client))[1].endswith("; 90.00% [82.56%, 94.48%] on 100 of week 1")


def test_data_that_changed_since_the_champion_are_named(repository: Repository, client: Any) -> None:
    run_id = client.get_model_version_by_alias(NAME, "champion").run_id
    before = client.get_run(run_id).inputs.dataset_inputs
    for each, name, digest in zip(before, ("mnist-train", "labelled"), ("0" * 36, "1" * 36), strict=True):
        each.dataset._name, each.dataset._digest = name, digest

    with connected(repository.params, repository.paths):
        found = descriptions._changed_data(before, repository.paths)

    assert found == ["data added: mnist-test", "data removed: labelled", "data changed: mnist-train"]


def test_a_model_of_other_code_is_told_from_one_of_the_same(repository: Repository, client: Any) -> None:
    champion = client.get_model_version_by_alias(NAME, "champion")
    before = client.get_run(champion.run_id).data.params
    as_before = variant(repository, float(before["export.int8_agreement"]))
    challenge(as_before, another, seed=int(before["train.seed"]))
    other = lines(registered(repository, client))[2]
    client.set_model_version_tag(NAME, champion.version, "lineage", client.get_model_version(NAME, "3").tags["lineage"])
    challenge(as_before, another, seed=int(before["train.seed"]))

    assert other == "- **Changed** since champion version 2: code or library versions, and no parameter or data"
    assert lines(registered(repository, client))[2] == "- **Changed** since champion version 2: nothing"


def test_notes_and_names_of_people_stay(repository: Repository, client: Any) -> None:
    run = registered(repository, client)
    version = client.get_model_version_by_alias(NAME, "champion")
    client.set_tag(version.run_id, NOTE, f"{run.data.tags[NOTE]}\n\nLooks good.")
    client.update_run(version.run_id, name="the best")
    client.update_model_version(NAME, version.version, "Shown to the team.")
    for _ in range(2):
        register.run(repository.params, repository.paths)

    kept, described = client.get_run(version.run_id), client.get_model_version(NAME, version.version).description
    assert kept.info.run_name == "the best"
    assert kept.data.tags[NOTE].startswith("- **Data:** ")
    assert kept.data.tags[NOTE].endswith("-->\n\nLooks good.")
    assert kept.data.tags[NOTE].count("**Accuracy:**") == 1
    assert described.endswith("-->\n\nShown to the team.")
    assert described.count("# Model card") == 1


def test_notes_that_leave_no_room_are_not_cut(repository: Repository, client: Any) -> None:
    version = client.get_model_version_by_alias(NAME, "champion")
    client.update_model_version(NAME, version.version, "n" * 4900)

    register.run(repository.params, repository.paths)

    assert client.get_model_version(NAME, version.version).description == "n" * 4900


@pytest.mark.parametrize("most", [300, 1000, 2000])
def test_a_long_card_loses_the_sections_that_are_needed_least(most: int) -> None:
    titles = ["Intended use", "Files", "Results", "Results per class"]
    card = "# Model card\n\n" + "".join(f"## {title}\n\n{'x' * 250}\n\n" for title in titles)

    found = descriptions.shortened(card, most)

    assert len(found) <= most
    assert found.endswith("`model_card.md`, among the artifacts of the version's run.") == (most < len(card))
    if most == 1000:
        assert [title for title in titles if f"## {title}\n" in found] == ["Intended use", "Results", "Results per class"]
