"""Promotion, rollback and git tags in a real MLflow store, with models that were really exported."""

import argparse
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pytest

from pipeline import promote, register, rollback
from pipeline.core import files
from pipeline.core.paths import Paths
from pipeline.inference import convert
from pipeline.promotion.errors import GitTagError, NoChampionError
from pipeline.promotion.rules import REFUSED_EXIT_CODE
from pipeline.tracking.errors import NoVersionError
from tests.conftest import Repository, edit_params

# Bounds that the small model of the tests meets.
LOW = {
    "promote.champion_accuracy": 0.5,
    "promote.minimum": {"accuracy": 0.5, "worst_recall": 0.1, "shifted_accuracy": 0.1, "int8_agreement": 0.995},
    "promote.maximum": {"calibration_error": 0.9, "bytes": 2_000_000, "latency_microseconds": 100_000.0},
}


@pytest.fixture
def repository(built: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A copy of the built tree and its store, whose only version is the challenger."""
    monkeypatch.delenv("CI", raising=False)
    shutil.copytree(built.paths.root, tmp_path, ignore=shutil.ignore_patterns("source"), dirs_exist_ok=True)
    return Repository(edit_params(tmp_path / "params.yaml", LOW), Paths(tmp_path))


@pytest.fixture
def client(repository: Repository) -> Any:
    return mlflow.MlflowClient(repository.paths.tracking_uri)


def command(repository: Repository, verb: Any = promote, **options: Any) -> int:
    given = {"first": False, "check": False, "tag": False, "verify": False, "history": False, "require": None} | options
    return int(verb.run(argparse.Namespace(**given), repository.params, repository.paths))


def champion(client: Any) -> int:
    return int(client.get_model_version_by_alias("mnist-dense", "champion").version)


def challenge(repository: Repository, change: Callable[[Any], Any], seed: int = 1) -> None:
    """Change the first kernel of the model, and register the result as a model of another seed."""
    proto = onnx.load(repository.paths.onnx)
    kernel = max(proto.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    kernel.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(kernel)).astype(np.float32), kernel.name))
    onnx.save(proto, repository.paths.onnx)
    images = np.load(repository.paths.raw / "train_images.npy", mmap_mode="r")
    onnx.save(convert.quantize(proto, images), repository.paths.int8)
    train = repository.params.train.model_copy(update={"seed": seed})
    register.run(repository.params.model_copy(update={"train": train}), repository.paths)


def worse(kernel: Any) -> Any:
    return kernel + np.random.default_rng(0).normal(0, 3 * kernel.std(), kernel.shape)


def slightly_different(kernel: Any) -> Any:
    return kernel * (1 + 1e-3)


def test_the_first_model_in_a_new_local_store_becomes_champion(
    repository: Repository, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(repository) == 0

    assert champion(client) == 1
    printed = capsys.readouterr().out
    assert "version 1 becomes champion" in printed
    assert "the first champion" in printed
    decision = files.read_json(repository.paths.promotion)
    assert decision["promote"] is True
    version = client.get_model_version("mnist-dense", "1")
    assert version.tags["promotion"] == "promoted"
    assert version.tags["promotion.reason"] == decision["sentence"]
    assert "promotion.json" in {entry.path for entry in client.list_artifacts(version.run_id)}


def test_a_store_without_a_champion_is_an_error_in_ci(
    repository: Repository, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(NoChampionError, match=r"expected a champion in the MLflow store .*the wrong store, or a lost one"):
        command(repository)

    assert "champion" not in client.get_registered_model("mnist-dense").aliases
    assert command(repository, first=True) == 0
    assert champion(client) == 1


def test_promoting_the_champion_again_changes_nothing(
    repository: Repository, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(repository)
    before = client.get_registered_model("mnist-dense")

    assert command(repository, check=True) == 0

    assert capsys.readouterr().out.splitlines()[-1] == "promote   version 1 is already champion"
    after = client.get_registered_model("mnist-dense")
    assert (after.aliases, after.tags) == (before.aliases, before.tags)


def test_an_inferior_challenger_is_refused_and_the_champion_stays(
    repository: Repository, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    command(repository)
    challenge(repository, worse)

    assert command(repository) == 0
    assert command(repository, check=True) == REFUSED_EXIT_CODE

    assert champion(client) == 1
    assert "version 2 is refused: " in capsys.readouterr().out
    assert client.get_model_version("mnist-dense", "2").tags["promotion"] == "refused"
    assert files.read_json(repository.paths.promotion)["promote"] is False


def test_another_seed_that_is_not_superior_is_refused(repository: Repository, client: Any) -> None:
    command(repository)
    challenge(repository, slightly_different)

    command(repository)

    assert champion(client) == 1
    assert files.read_json(repository.paths.promotion)["require"] == "superior"


def test_a_model_without_int8_is_registered_and_promoted_without_it(
    repository: Repository, client: Any, tmp_path: Path
) -> None:
    repository.paths.int8.write_bytes(b"")
    register.run(repository.params, repository.paths)

    assert command(repository) == 0

    version = client.get_model_version_by_alias("mnist-dense", "champion")
    pulled = mlflow.artifacts.download_artifacts("models:/mnist-dense@champion", tracking_uri=repository.paths.tracking_uri)
    names = {path.name for path in Path(pulled).iterdir()}
    assert "int8_sha256" not in version.tags
    assert {"model.onnx", "contract.json"} < names
    assert "model.int8.onnx" not in names
    (rule,) = (rule for rule in files.read_json(repository.paths.promotion)["rules"] if rule["rule"] == "int8_agreement")
    assert (rule["observed"], rule["met"]) == ("no int8 file", True)


def promote_second(repository: Repository) -> None:
    """Make version 1 champion, then version 2, which is equally good and of another lineage."""
    command(repository)
    export = repository.params.export.model_copy(update={"int8_agreement": 0.5})
    other = Repository(repository.params.model_copy(update={"export": export}), repository.paths)
    challenge(other, slightly_different)
    command(repository)


def test_a_rollback_restores_the_previous_champion_and_withdraws_the_other(repository: Repository, client: Any) -> None:
    promote_second(repository)
    assert champion(client) == 2

    assert command(repository, rollback) == 0

    assert champion(client) == 1
    assert client.get_model_version_by_alias("mnist-dense", "previous").version == 2
    command(repository)
    assert champion(client) == 1
    assert "rolled back once" in files.read_json(repository.paths.promotion)["sentence"]


def test_every_champion_is_recorded_with_the_reason(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.promotion import champions

    promote_second(repository)
    command(repository, rollback)

    moves = champions.moves("mnist-dense")

    assert [(move.number, move.champion, move.previous) for move in moves] == [(1, 1, None), (2, 2, 1), (3, 1, 2)]
    assert [move.at for move in moves] == sorted(move.at for move in moves)
    assert "the first champion" in moves[0].reason
    assert "against" in moves[1].reason
    assert moves[2].reason == "rolled back from version 2"
    capsys.readouterr()
    command(repository, history=True)
    assert capsys.readouterr().out.splitlines()[2] == f"{moves[2].at} version 1 in place of 2: rolled back from version 2"


def test_an_alias_moved_by_hand_is_respected_and_recorded(repository: Repository, client: Any) -> None:
    from pipeline.promotion import champions

    promote_second(repository)
    client.set_registered_model_alias("mnist-dense", "champion", "1")
    assert command(repository, verify=True) == 1

    command(repository, rollback)

    assert [move.champion for move in champions.moves("mnist-dense")] == [1, 2, 1, 2]
    assert "by hand" in champions.moves("mnist-dense")[2].reason


def test_a_rollback_without_a_previous_champion_is_an_error(repository: Repository) -> None:
    with pytest.raises(NoVersionError, match="mnist-dense: expected a version with the alias previous, found none"):
        command(repository, rollback)


def test_an_altered_registered_file_is_not_promoted(repository: Repository, client: Any) -> None:
    for file in (repository.paths.store / "artifacts").rglob("model.onnx"):
        file.write_bytes(file.read_bytes()[:-1] + b"\0")

    command(repository)

    assert champion(client) == 2  # registered again from the tree
    assert client.get_model_version("mnist-dense", "2").tags["onnx_sha256"] == files.sha256(repository.paths.onnx)


def git(repository: Repository, *arguments: str) -> str:
    identity = ["-c", "user.name=tester", "-c", "user.email=tester@localhost"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=repository.paths.root, check=True, capture_output=True, text=True
    )
    return done.stdout


def commit(repository: Repository) -> None:
    """Commit a dvc.lock that names the current model, like the one that `dvc repro` writes."""
    md5 = files.md5(repository.paths.onnx)
    lock = f"stages:\n  export:\n    outs:\n    - path: data/model/model.onnx\n      md5: {md5}\n"
    (repository.paths.root / "dvc.lock").write_text(lock)
    if not (repository.paths.root / ".git").exists():
        git(repository, "init", "--quiet")
        git(repository, "config", "user.name", "tester")
        git(repository, "config", "user.email", "tester@localhost")
    git(repository, "add", "dvc.lock")
    git(repository, "commit", "--quiet", "--message", "Lock")


def tags(repository: Repository) -> list[str]:
    return git(repository, "tag").split()


def test_a_promotion_tags_the_commit_of_the_model(repository: Repository, client: Any) -> None:
    commit(repository)

    command(repository, tag=True)

    assert tags(repository) == ["mnist-dense#champion#1", "mnist-dense@v1.0.0"]
    assert client.get_model_version("mnist-dense", "1").tags["release"] == "v1.0.0"
    assert command(repository, verify=True) == 0


def test_a_commit_of_another_model_is_not_tagged(repository: Repository) -> None:
    commit(repository)
    challenge(repository, slightly_different)

    with pytest.raises(GitTagError, match=r"git tag: expected dvc\.lock of \w+ to name"):
        command(repository, tag=True)

    assert tags(repository) == []


def test_the_next_promotion_completes_one_that_was_interrupted_before_its_tag(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(repository)
    command(repository, tag=True)
    export = repository.params.export.model_copy(update={"int8_agreement": 0.5})
    challenge(Repository(repository.params.model_copy(update={"export": export}), repository.paths), slightly_different)
    commit(repository)
    command(repository)  # moves the alias, but adds no tag

    assert command(repository, verify=True) == 1
    assert "git tag v1.0.0 names another file than version 2, the champion: `make promote TAG=1`" in capsys.readouterr().out
    command(repository, tag=True)

    assert "mnist-dense@v1.1.0" in tags(repository)
    assert command(repository, verify=True) == 0


def test_a_rollback_also_moves_the_git_tag(repository: Repository) -> None:
    commit(repository)
    command(repository, tag=True)
    export = repository.params.export.model_copy(update={"int8_agreement": 0.5})
    challenge(Repository(repository.params.model_copy(update={"export": export}), repository.paths), slightly_different)
    commit(repository)
    command(repository, tag=True)

    command(repository, rollback, tag=True)

    assert "mnist-dense#champion#3" in tags(repository)
    assert command(repository, verify=True) == 0


def test_verify_without_a_champion_is_an_error(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(repository, verify=True) == 1

    assert "there is no champion: `make promote` decides on the model of this tree" in capsys.readouterr().out
