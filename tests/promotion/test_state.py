"""Tree, registry and alias disagree: what somebody moved or deleted is noticed, and brought back or named."""

import shutil
import subprocess
import sys
from typing import Any

import pytest

from pipeline import register, rollback, summary
from pipeline.core import files
from pipeline.promotion import assessment, champions, retraining
from pipeline.promotion.errors import ChampionChangedError, NoChampionError
from pipeline.tracking import registry
from pipeline.tracking.connection import connected
from pipeline.tracking.errors import DeletedExperimentError, NoVersionError, UnregisteredTreeError
from tests.champions import NAME, aliases, another, kept, lose, restore, served, variant
from tests.conftest import Repository
from tests.imports import ROOT
from tests.test_promote import challenge, champion, command, worse


@pytest.fixture
def experiment(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment that registered another model after that of the tree. Then DVC restored the tree from its cache."""
    challenge(variant(repository, 0.4), another)
    before = kept(repository)
    with monkeypatch.context() as patch:
        patch.setenv("DVC_EXP_NAME", "wide")
        challenge(repository, worse)
    restore(before)


@pytest.mark.usefixtures("experiment")
def test_the_model_of_an_experiment_is_not_taken_for_that_of_the_tree(repository: Repository, client: Any) -> None:
    assert aliases(client) == {"champion": 2, "previous": 1, "challenger": 3}

    command(repository)

    assert aliases(client) == {"champion": 3, "previous": 2}
    assert served(repository) == files.sha256(repository.paths.onnx)


def test_an_alias_that_somebody_moved_does_not_decide(repository: Repository, client: Any) -> None:
    before = kept(repository)
    challenge(repository, worse)
    restore(before)
    assert aliases(client)["challenger"] == 3

    command(repository)

    assert aliases(client)["champion"] == 2
    assert files.read_json(repository.paths.promotion)["challenger"] == 2


def test_a_refused_version_does_not_come_back_after_a_rollback(repository: Repository, client: Any) -> None:
    published = kept(repository)
    challenge(repository, worse, seed=2)
    command(repository)  # refuses version 3
    restore(published)  # as a retraining cycle does
    command(repository, rollback)

    command(repository)

    assert champion(client) == 1
    assert "rolled back once" in files.read_json(repository.paths.promotion)["sentence"]


@pytest.mark.parametrize(("change", "promoted"), [(worse, 2), (another, 3)])
def test_a_decision_removes_the_alias_challenger(change: Any, promoted: int, repository: Repository, client: Any) -> None:
    challenge(variant(repository, 0.4), change)
    assert aliases(client)["challenger"] == 3

    command(repository)

    assert aliases(client) == {"champion": promoted, "previous": promoted - 1}
    with pytest.raises(NoVersionError, match="`make register` gives it to the model of this tree"):
        registry.named(NAME, "challenger")


def test_register_gives_the_champion_no_other_alias(repository: Repository, client: Any) -> None:
    assert register.run(repository.params, repository.paths) == f"{NAME} version 2 is champion already, registered before"
    assert "challenger" not in aliases(client)


def test_a_model_that_the_store_lacks_is_registered_from_the_tree(repository: Repository, client: Any) -> None:
    client.delete_registered_model(NAME)

    command(repository)  # DVC has restored data/registration.json, so register did not run here

    assert served(repository) == files.sha256(repository.paths.onnx)


def test_a_tree_whose_files_do_not_belong_together_is_not_registered(repository: Repository, client: Any) -> None:
    before = kept(repository)
    challenge(repository, worse)
    client.delete_registered_model(NAME)
    restore({repository.paths.registration: before[repository.paths.registration]})

    with pytest.raises(
        UnregisteredTreeError, match=r"registration\.json: expected onnx_sha256 \w+, as in this tree, found \w+"
    ):
        command(repository)

    assert client.search_model_versions(f"name = '{NAME}'") == []


def in_tree(repository: Repository) -> bool:
    return retraining.is_champion(repository.params, repository.paths)


@pytest.mark.parametrize("loss", ["alias", "version", "files", "purged model", "purged run", "model"])
def test_what_the_champion_lost_is_named_and_brought_back_from_the_tree(
    loss: str, repository: Repository, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_tree(repository)
    lose(loss, repository, client)

    assert not in_tree(repository)  # otherwise `make retrain` would say that nothing is new
    assert command(repository, verify=True) == 1
    assert "`make promote`" in capsys.readouterr().out
    register.run(repository.params, repository.paths)
    assert command(repository, check=True) == 0

    assert in_tree(repository)
    assert served(repository) == files.sha256(repository.paths.onnx)
    assert command(repository, verify=True) == 0


def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(repository: Repository, client: Any) -> None:
    lose("experiment", repository, client)

    with pytest.raises(DeletedExperimentError, match="expected an experiment mnist, found that it was deleted") as raised:
        command(repository)

    _, _, restore_it = str(raised.value).splitlines()
    done = subprocess.run(["bash", "-c", restore_it], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert command(repository, verify=True) == 0


@pytest.mark.parametrize("loss", ["altered", "version"])
def test_a_champion_that_cannot_be_restored_is_named(
    loss: str, repository: Repository, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(loss, repository, client)
    challenge(repository, another)

    with pytest.raises(NoChampionError, match=r"(?s)version 2, champion since 20.*`make promote FIRST=1`"):
        command(repository)

    assert not repository.paths.promotion.exists()
    command(repository, first=True)
    assert served(repository) == files.sha256(repository.paths.onnx)


@pytest.mark.parametrize("loss", ["alias", "run"])
def test_another_model_is_compared_with_a_champion_that_can_be_served(loss: str, repository: Repository, client: Any) -> None:
    lose(loss, repository, client)
    challenge(repository, worse)

    command(repository)

    assert champion(client) == 2
    assert files.read_json(repository.paths.promotion)["champion"] == 2


def test_a_store_that_lost_its_champion_is_an_error_in_ci(
    repository: Repository, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.delete_registered_model(NAME)
    monkeypatch.setenv("CI", "true")

    assert not in_tree(repository)
    with pytest.raises(NoChampionError, match="It may be the wrong store, or a lost one"):
        command(repository)


def test_a_rolled_back_model_in_the_tree_is_not_taken_for_the_champion(repository: Repository) -> None:
    command(repository, rollback)

    assert not in_tree(repository)  # whatever the git tags say


def test_a_second_rollback_does_not_return_to_a_withdrawn_version(repository: Repository, client: Any) -> None:
    command(repository, rollback)

    with pytest.raises(NoVersionError, match="an earlier champion of another model, which was not withdrawn"):
        command(repository, rollback)

    assert champion(client) == 1


def test_a_withdrawn_model_may_be_champion_where_no_other_can_be_served(repository: Repository, client: Any) -> None:
    command(repository, rollback)
    lose("files", repository, client, 1)

    with pytest.raises(NoChampionError, match="the store lost the files of version 1"):
        command(repository)
    assert command(repository, first=True) == 0

    assert aliases(client)["champion"] == 2
    assert "withdrawn" not in client.get_model_version(NAME, "2").tags


@pytest.mark.parametrize("loss", ["files", "version", "run"])
def test_a_rollback_skips_what_cannot_be_served(loss: str, repository: Repository, client: Any) -> None:
    challenge(variant(repository, 0.4), another)
    command(repository)
    assert champion(client) == 3
    lose(loss, repository, client)

    command(repository, rollback)

    assert champion(client) == (2 if loss == "run" else 1)
    assert served(repository) == client.get_model_version(NAME, str(champion(client))).tags["onnx_sha256"]


def test_a_rollback_from_a_deleted_version_finds_the_earlier_champion(repository: Repository, client: Any) -> None:
    lose("version", repository, client)

    command(repository, rollback)

    assert champion(client) == 1


def test_two_cycles_at_once_make_one_champion(repository: Repository, client: Any) -> None:
    challenge(variant(repository, 0.4), another)
    params, paths = repository.params, repository.paths
    with connected(params, paths):
        first, second = (assessment.assess(params, paths, first=False) for _ in range(2))
        assessment.apply(first, paths)
        paths.promotion.unlink()
        with pytest.raises(ChampionChangedError, match=r"expected version 2 to be champion .*, found version 3"):
            assessment.apply(second, paths)
        champions.make_champion(second.version, "again")

    assert not paths.promotion.exists()
    assert aliases(client) == {"champion": 3, "previous": 2}
    assert [move.champion for move in champions.moves(NAME)] == [1, 2, 3]
    command(repository, rollback)
    assert champion(client) == 2


def test_a_challenger_whose_run_was_deleted_is_registered_again(repository: Repository, client: Any) -> None:
    challenge(variant(repository, 0.4), another)
    lose("run", repository, client, 3)

    command(variant(repository, 0.4))

    assert champion(client) == 4
    assert files.read_json(repository.paths.promotion)["promote"] is True
    assert command(repository, verify=True) == 0


def test_a_refusal_without_a_champion_is_no_success(repository: Repository, client: Any) -> None:
    client.delete_registered_model(NAME)
    bounds = repository.params.promote.minimum.model_copy(update={"accuracy": 1.0})
    strict = repository.params.promote.model_copy(update={"minimum": bounds})

    assert command(Repository(repository.params.model_copy(update={"promote": strict}), repository.paths)) == 3

    assert "champion" not in aliases(client)


@pytest.mark.parametrize("given", ["", "0123"])
@pytest.mark.parametrize("command", [["predict", "image.png"], ["serve", "--model", "data/model/model.onnx"]])
def test_an_incomplete_hash_is_refused_and_not_ignored(command: list[str], given: str) -> None:
    verb, *arguments = command
    line = [sys.executable, "-m", f"pipeline.{verb}", "--sha256", given, *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "expected 64 hexadecimal digits" in done.stderr


def test_summary_names_a_version_only_if_the_store_has_it(
    repository: Repository, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "dvc.yaml", repository.paths.root)  # it lists what to commit
    summary.run(None, repository.params, repository.paths)
    assert f"registered as {NAME} version 2" in capsys.readouterr().out
    client.delete_registered_model(NAME)

    summary.run(None, repository.params, repository.paths)

    assert "not in the MLflow store: `make register` adds it" in capsys.readouterr().out
