"""A sweep's trials on Ray Tune: each is the pipeline's own fit, with other parameters."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from pipeline.core import imports, space
from pipeline.core.datasets import Split
from pipeline.core.errors import DivergedError
from pipeline.core.params import Params, RangeParams

METRIC = "val_loss"

_NAME = "trials"
_DIVERGED = 1e6  # the loss of a trial whose loss is not finite: worse than any

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


class Observer(Protocol):
    """Is told what happens to trials, in the process that runs the search. It is pickled, for the search to be resumed."""

    def started(self, name: str, config: Config) -> None: ...

    def epoch_ended(self, name: str, epoch: int, figures: Mapping[str, float]) -> None: ...

    def ended(self, trial: Trial, count: int) -> None:
        """A trial ended, `count` have by now."""


def fit(config: Config, data: Split, parts: Any, params: Params) -> None:
    """Fit the network with the parameters of `config`, and report each epoch. Runs on any machine of the cluster."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(math.ceil(params.sweep.cores))
    with imports.lean_tensorflow():
        from pipeline.core import model, training

    chosen = space.override(params, config)
    network = model.build(chosen.model, data.images.shape[1:], len(chosen.fetch.classes), chosen.train.seed)
    try:
        training.fit(network, data, parts, chosen.train, lambda epoch, figures: tune.report(dict(figures)))
    except DivergedError:
        tune.report({METRIC: _DIVERGED})


def search(data: Split, parts: Any, params: Params, folder: Path, observer: Observer, resume: bool) -> list[Trial]:
    """Run the trials of `params.sweep`; with `resume`, those that are left of the search whose state is in `folder`.

    Optuna's tree-structured Parzen estimator proposes, and asynchronous successive halving stops what is worse than others.
    The data go to each machine once, by Ray's object store.

    Returns:
        The trials that ended, the best first. Fewer than asked for when the search was interrupted.
    """
    runnable = tune.with_parameters(fit, data=data, parts=parts, params=params)
    runnable = tune.with_resources(runnable, {"cpu": params.sweep.cores})
    if resume:
        tuner = tune.Tuner.restore(str((folder / _NAME).absolute()), runnable, restart_errored=True)
    else:
        run_config = tune.RunConfig(
            name=_NAME,
            storage_path=str(folder.absolute()),
            failure_config=tune.FailureConfig(max_failures=params.sweep.retries),
            callbacks=[_Callback(observer)],
            verbose=0,
        )
        tuner = tune.Tuner(runnable, tune_config=_plan(params), run_config=run_config)
    trials = [_trial(result) for result in tuner.fit() if result.error or (result.metrics or {}).get("done")]
    return sorted(trials, key=lambda trial: trial.figures.get(METRIC, math.inf))


def can_resume(folder: Path) -> bool:
    """Whether `folder` holds a search that was begun."""
    return bool(tune.Tuner.can_restore(str((folder / _NAME).absolute())))


def _plan(params: Params) -> tune.TuneConfig:
    sweep, epochs = params.sweep, params.train.epochs
    first = [space.current(params)] if space.within(params) else None  # so that the best is at least as good as what is now
    return tune.TuneConfig(
        metric=METRIC,
        mode="min",
        search_alg=OptunaSearch(distributions(params), METRIC, "min", points_to_evaluate=first, seed=params.train.seed),
        scheduler=ASHAScheduler(max_t=epochs, grace_period=min(sweep.grace, epochs), reduction_factor=sweep.reduction),
        num_samples=sweep.trials,
    )


def distributions(params: Params) -> dict[str, BaseDistribution]:
    """The space, as Optuna has it."""
    return {
        name: FloatDistribution(values.low, values.high, log=values.log)
        if isinstance(values, RangeParams)
        else CategoricalDistribution(values.choices)
        for name, values in params.sweep.space.items()
    }


def _trial(result: Any) -> Trial:
    return _ended(result.metrics["trial_id"] if result.metrics else "", result.config, {} if result.error else result.metrics)


def _ended(name: str, config: Config, metrics: Mapping[str, Any]) -> Trial:
    return Trial(name, dict(config), int(metrics.get("training_iteration", 0)), _figures(metrics))


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(metrics[name]) for name in ("loss", "accuracy", METRIC, "val_accuracy") if name in metrics}


class _Callback(tune.Callback):  # type: ignore[misc]
    """Tells the observer what Tune tells its callbacks."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.observer.started(trial.trial_id, trial.config)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.observer.epoch_ended(trial.trial_id, result["training_iteration"], _figures(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trials, trial, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trials, trial, {})

    def _end(self, trials: list[Any], trial: Any, metrics: Mapping[str, Any]) -> None:
        count = len({each.trial_id for each in trials if each.is_finished()} | {trial.trial_id})
        self.observer.ended(_ended(trial.trial_id, trial.config, metrics), count)
