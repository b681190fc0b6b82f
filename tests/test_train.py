import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import train
from pipeline.core import files
from pipeline.core.errors import MissingInputError
from pipeline.data.datasets import Split
from pipeline.train import UnvalidatedDataError
from pipeline.training.fit import DivergedError
from tests.conftest import ROOT, Repository, edit_params, pass_validation, small_repository


@pytest.fixture
def fetched(tmp_path: Path, subset: dict[str, Split]) -> Repository:
    return small_repository(tmp_path, subset)


def test_training_requires_a_validation_report(fetched: Repository) -> None:
    with pytest.raises(MissingInputError, match=r"report\.json: expected this file"):
        train.run(fetched.params, fetched.paths)


def test_training_refuses_data_that_failed_validation(fetched: Repository) -> None:
    pass_validation(fetched.paths)
    report = files.read_json(fetched.paths.report)
    files.write_json(fetched.paths.report, {**report, "success": False, "broken": ["train split, labels"]})

    with pytest.raises(UnvalidatedDataError, match=r"found 1 broken expectation\(s\)"):
        train.run(fetched.params, fetched.paths)
    assert not fetched.paths.keras.exists()


def test_training_refuses_a_validation_of_other_data(fetched: Repository) -> None:
    pass_validation(fetched.paths)
    report = files.read_json(fetched.paths.report)
    files.write_json(fetched.paths.report, {**report, "fingerprint": "0" * 64})

    with pytest.raises(UnvalidatedDataError, match="found a validation of other data"):
        train.run(fetched.params, fetched.paths)


def test_divergence_leaves_no_model_and_a_failed_run(fetched: Repository) -> None:
    import mlflow

    pass_validation(fetched.paths)
    diverging = edit_params(
        fetched.paths.params,
        {"train.optimizer": "sgd", "train.schedule": "constant", "train.learning_rate": 1e38},
    )

    with pytest.raises(DivergedError, match="in epoch 1"):
        train.run(diverging, fetched.paths)

    assert not fetched.paths.keras.exists()
    assert [run.info.status for run in mlflow.search_runs(search_all_experiments=True, output_format="list")] == ["FAILED"]


def test_invalid_parameters_are_refused_before_tensorflow_is_imported(fetched: Repository) -> None:
    text = fetched.paths.params.read_text()
    fetched.paths.params.write_text(text.replace("epochs: 2\n", "epochs: 0\n"))
    code = "import sys; sys.argv = ['train']; from pipeline import train; from pipeline.core import console;"
    code += "print(console.run_stage('train', train.run), 'tensorflow' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=fetched.paths.root,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["1", "False"]
    assert "train.epochs: expected greater than or equal to 1, found 0" in done.stderr
