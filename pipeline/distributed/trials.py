"""A sweep's trials on Ray Tune: each is the pipeline's own fit, with other parameters."""

import functools
import json
import logging
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from ray import tune
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from pipeline.core.params import Params, RangeParams
from pipeline.data.datasets import Split
from pipeline.distributed import search_space
from pipeline.training import tensorflow_setup
from pipeline.training.fit import DivergedError

METRIC = "val_loss"

_NAME = "trials"
_DIVERGED = 1e6  # the loss of a trial whose loss is not finite: worse than any

# Seconds between two snapshots of a search, which is all that is left of it where its own process or machine dies.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its own lines, which `verbose=0` does not keep back

Config = dict[str, Any]


class Trial(NamedTuple):
    """What came of a trial: its parameters, and the figures of its last epoch; none if it failed."""

    name: str
    config: Config
    epochs: int
    figures: dict[str, float]

    @property
    def failed(self) -> bool:
        return METRIC not in self.figures

    @property
    def diverged(self) -> bool:
        return self.figures.get(METRIC) == _DIVERGED

    @property
    def loss(self) -> float:
        return self.figures.get(METRIC, math.inf)


class Observer(Protocol):
    """Is told what happens to trials, in the process that runs the search. It is pickled, for the search to be resumed."""

    def started(self, name: str, config: Config) -> None: ...

    def epoch_ended(self, name: str, epoch: int, figures: Mapping[str, float]) -> None: ...

    def ended(self, trial: Trial, count: int, best: float) -> None:
        """A trial ended; `count` have by now, the best with that loss."""


def run_trial(config: Config, data: Split, parts: Any, params: Params) -> None:
    """Fit the network with the parameters of `config`, and report each epoch. Runs on any machine of the cluster.

    A process runs one trial after the other: TensorFlow takes as long to import as a trial that is stopped early.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(math.ceil(params.sweep.cpus_per_trial))
    network, fit = _libraries()
    chosen = search_space.override(params, config)
    model = network.build(chosen.model, data.images.shape[1:], len(chosen.fetch.classes), chosen.train.seed)
    try:
        fit.fit(model, data, parts, chosen.train, lambda epoch, figures: tune.report(dict(figures)))
    except DivergedError:
        tune.report({METRIC: _DIVERGED})


@functools.cache
def _libraries() -> tuple[ModuleType, ModuleType]:
    with tensorflow_setup.lean_tensorflow():
        from pipeline.training import fit, network
    return network, fit


def search(data: Split, parts: Any, params: Params, folder: Path, observer: Observer, resume: bool) -> list[Trial]:
    """Run the trials of `params.sweep`; with `resume`, those that are left of the search whose state is in `folder`.

    Optuna's tree-structured Parzen estimator proposes, and asynchronous successive halving stops what is worse than others.
    The data go to each machine once, by Ray's object store.

    Returns:
        The trials that ended, the best first and behind those that were not stopped early those that were. Fewer than asked
        for when the search was interrupted.
    """
    runnable = tune.with_parameters(run_trial, data=data, parts=parts, params=params)
    runnable = tune.with_resources(runnable, {"cpu": params.sweep.cpus_per_trial})
    if resume:
        tuner = _restored(folder, runnable)
    else:
        run_config = tune.RunConfig(
            name=_NAME,
            storage_path=str(folder.absolute()),
            failure_config=tune.FailureConfig(max_failures=params.sweep.max_failures),
            callbacks=[_Callback(observer)],
            verbose=0,
        )
        tuner = tune.Tuner(runnable, tune_config=_plan(params), run_config=run_config)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of a trial that fails, the traceback is in its folder
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # on which Tune ends in good order
    results = _fitted(tuner, folder, runnable, params.sweep.max_failures)
    trials = [_of(result) for result in results if _begun(result) and (result.error or (result.metrics or {}).get("done"))]
    # One that was stopped early has not shown what it would come to. With train.early_stopping one may end early by itself.
    whole = 0 if params.train.early_stopping else params.train.epochs
    return sorted(trials, key=lambda trial: (trial.failed, trial.diverged, trial.epochs < whole, trial.loss))


def _fitted(tuner: tune.Tuner, folder: Path, runnable: Any, retries: int) -> list[Any]:
    """The results of the search, which goes on up to `retries` times where Tune ended it or a trial without need.

    Raises:
        TuneError: Tune fails each time.
    """
    for left in range(retries, -1, -1):
        try:
            results = list(tuner.fit())
        except TuneError:  # what Tune raises when it cannot make sense of what it hears of a machine that died
            if not left:
                raise
        else:
            # Tune tries a trial again that had begun when its machine died, but not one that was about to.
            if not (left and any(result.error and not _begun(result) for result in results)):
                break
        tuner = _restored(folder, runnable)
    return results


def _restored(folder: Path, runnable: Any) -> tune.Tuner:
    """The search whose state is in `folder`, to go on with."""
    return tune.Tuner.restore(str((folder / _NAME).absolute()), runnable, restart_errored=True)


def can_resume(folder: Path) -> bool:
    """Whether `folder` holds a search that was begun."""
    return bool(tune.Tuner.can_restore(str((folder / _NAME).absolute())))


def _plan(params: Params) -> tune.TuneConfig:
    sweep, epochs = params.sweep, params.train.epochs
    first = search_space.current(params)
    return tune.TuneConfig(
        metric=METRIC,
        mode="min",
        search_alg=OptunaSearch(
            distributions(params), METRIC, "min", points_to_evaluate=[first] if first else None, seed=params.train.seed
        ),
        scheduler=_Halving(
            first, max_t=epochs, grace_period=min(sweep.grace_period, epochs), reduction_factor=sweep.reduction_factor
        ),
        num_samples=sweep.trials,
        reuse_actors=True,
    )


def distributions(params: Params) -> dict[str, BaseDistribution]:
    """The space, as Optuna has it."""
    return {
        name: FloatDistribution(values.low, values.high, log=values.log)
        if isinstance(values, RangeParams)
        else CategoricalDistribution(values.choices)
        for name, values in params.sweep.search_space.items()
    }


class _Halving(ASHAScheduler):  # type: ignore[misc]
    """Never stops what params.yaml says now, so that the best is at least as good as that."""

    def __init__(self, kept: Config | None, **options: Any) -> None:
        super().__init__(**options)
        self.kept = kept

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(super().on_trial_result(tune_controller, trial, result))
        return str(TrialScheduler.CONTINUE) if trial.config == self.kept else decision


def _config(result: Any) -> Path:
    """The file that Tune writes as a trial begins. The result of one whose process died at once tells no configuration."""
    return Path(result.path) / "params.json"


def _begun(result: Any) -> bool:
    return _config(result).exists()


def _of(result: Any) -> Trial:
    config = json.loads(_config(result).read_text(encoding="utf-8"))
    return _trial(result.metrics["trial_id"], config, {} if result.error else result.metrics)


def _trial(name: str, config: Config, metrics: Mapping[str, Any]) -> Trial:
    return Trial(name, dict(config), int(metrics.get("training_iteration", 0)), _figures(metrics))


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(metrics[name]) for name in ("loss", "accuracy", METRIC, "val_accuracy") if name in metrics}


class _Callback(tune.Callback):  # type: ignore[misc]
    """Tells the observer what Tune tells its callbacks."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.begun: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.begun.add(trial.trial_id)
        self.observer.started(trial.trial_id, trial.config)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.observer.epoch_ended(trial.trial_id, result["training_iteration"], _figures(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial.run_metadata.invalidate_cache()  # Tune notes that a trial is done without it, and snapshots may lack that
        self._end(trials, trial, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self.begun:
            self._end(trials, trial, {})

    def _end(self, trials: list[Any], trial: Any, metrics: Mapping[str, Any]) -> None:
        finished = [each for each in trials if each.is_finished() and each.trial_id != trial.trial_id]
        this = _trial(trial.trial_id, trial.config, metrics)
        losses = [_figures(each.last_result or {}).get(METRIC, math.inf) for each in finished if each.status != "ERROR"]
        self.observer.ended(this, len(finished) + 1, min([this.loss, *losses]))
