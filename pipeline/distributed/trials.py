"""Run the trials of a sweep on Ray Tune: each fits the network with other hyperparameters."""

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

METRIC = "val_loss"  # which the search minimizes
METRICS = (METRIC, "val_accuracy", "loss", "accuracy")

_NAME = "trials"
_DIVERGED = 1e6  # reported as the loss of a trial whose loss is not finite

# Seconds between two checkpoints of the search, from which it resumes after its process or machine died.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # otherwise Tune prints lines despite `verbose=0`

Config = dict[str, Any]


class Trial(NamedTuple):
    """A trial that ended: its parameters and the metrics of its last epoch. A failed trial has no metrics."""

    name: str
    config: Config
    epochs: int
    metrics: dict[str, float]

    @property
    def failed(self) -> bool:
        return METRIC not in self.metrics

    @property
    def diverged(self) -> bool:
        return self.metrics.get(METRIC) == _DIVERGED

    @property
    def successful(self) -> bool:
        return not self.failed and not self.diverged

    @property
    def loss(self) -> float:
        return self.metrics.get(METRIC, math.inf)

    @property
    def outcome(self) -> str:
        """For example `val_loss 0.0312 after 26 epochs`."""
        if self.failed:
            return "failed"
        result = "diverged" if self.diverged else f"{METRIC} {self.loss:.4f}"
        return f"{result} after {self.epochs} epoch{'s' * (self.epochs != 1)}"


class Observer(Protocol):
    """Receives the events of trials in the process that runs the search. Checkpoints of the search pickle it."""

    def started(self, name: str, config: Config) -> None: ...

    def epoch_ended(self, name: str, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def ended(self, trial: Trial, count: int, best: float) -> None:
        """A trial ended. `count` trials have ended so far, the best with the loss `best`."""


def run_trial(config: Config, data: Split, rows: Any, params: Params) -> None:
    """Fit the network with the parameters of `config` and report each epoch. Runs on any machine of the cluster.

    A process is reused for the next trial, because importing TensorFlow takes as long as a trial that is stopped early.

    Args:
        rows: the indices of the images to fit on and of the images to validate on.
    """
    network, fit = _libraries(params.train.threads)
    chosen = search_space.override(params, config)
    model = network.build(chosen.model, data.images.shape[1:], len(chosen.fetch.classes), chosen.train.seed)
    try:
        fit.fit(model, data, rows, chosen.train, lambda epoch, metrics: tune.report(dict(metrics)))
    except DivergedError:
        tune.report({METRIC: _DIVERGED})


@functools.cache
def _libraries(threads: int) -> tuple[ModuleType, ModuleType]:
    with tensorflow_setup.lean_tensorflow(threads):
        from pipeline.training import fit, network
    return network, fit


def search(data: Split, rows: Any, params: Params, folder: Path, observer: Observer, resume: bool) -> list[Trial]:
    """Run the trials of `params.sweep`. With `resume`, run only the remaining trials of the search in `folder`.

    Optuna's tree-structured Parzen estimator suggests parameters, and asynchronous successive halving stops bad trials early.
    Ray's object store sends the data to each machine once.

    Args:
        rows: the indices of the images to fit on and of the images to validate on.

    Returns:
        The trials that ended, the best first; trials that were stopped early follow the others. Fewer than
        `params.sweep.trials` after an interruption.
    """
    runnable = tune.with_parameters(run_trial, data=data, rows=rows, params=params)
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
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the traceback of a failed trial is in its folder
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # Tune saves its state on SIGINT
    results = _fitted(tuner, folder, runnable, params.sweep.max_failures)
    trials = [_of(result) for result in results if _started(result) and (result.error or (result.metrics or {}).get("done"))]
    # The final loss of a trial that Tune stopped early is unknown. With train.early_stopping, fewer epochs do not mean that.
    epochs = 0 if params.train.early_stopping else params.train.epochs
    return sorted(trials, key=lambda trial: (trial.failed, trial.diverged, trial.epochs < epochs, trial.loss))


def _fitted(tuner: tune.Tuner, folder: Path, runnable: Any, retries: int) -> list[Any]:
    """Run the search and return its results. Resume it up to `retries` times if Tune itself fails or drops a trial.

    Raises:
        TuneError: Tune fails every time.
    """
    for left in range(retries, -1, -1):
        try:
            results = list(tuner.fit())
        except TuneError:  # Tune may fail while it handles the death of a machine
            if not left:
                raise
        else:
            # Tune retries a trial that was running when its machine died, but not one that was about to start.
            if not (left and any(result.error and not _started(result) for result in results)):
                break
        tuner = _restored(folder, runnable)
    return results


def _restored(folder: Path, runnable: Any) -> tune.Tuner:
    """Load the search whose state is in `folder`."""
    return tune.Tuner.restore(str((folder / _NAME).absolute()), runnable, restart_errored=True)


def can_resume(folder: Path) -> bool:
    """Return whether `folder` holds the state of a search."""
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
    """Return the search space as Optuna's distributions."""
    return {
        name: FloatDistribution(values.low, values.high, log=values.log)
        if isinstance(values, RangeParams)
        else CategoricalDistribution(values.choices)
        for name, values in params.sweep.search_space.items()
    }


class _Halving(ASHAScheduler):  # type: ignore[misc]
    """Never stops the trial with the current params.yaml, so that the best trial is at least as good."""

    def __init__(self, kept: Config | None, **options: Any) -> None:
        super().__init__(**options)
        self.kept = kept

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = str(super().on_trial_result(tune_controller, trial, result))
        return str(TrialScheduler.CONTINUE) if trial.config == self.kept else decision


def _config(result: Any) -> Path:
    """Tune writes this file when a trial starts. The result of a trial whose process died at once has no configuration."""
    return Path(result.path) / "params.json"


def _started(result: Any) -> bool:
    return _config(result).exists()


def _of(result: Any) -> Trial:
    config = json.loads(_config(result).read_text(encoding="utf-8"))
    return _trial(result.metrics["trial_id"], config, {} if result.error else result.metrics)


def _trial(name: str, config: Config, metrics: Mapping[str, Any]) -> Trial:
    return Trial(name, dict(config), int(metrics.get("training_iteration", 0)), _metrics(metrics))


def _metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(metrics[name]) for name in METRICS if name in metrics}


class _Callback(tune.Callback):  # type: ignore[misc]
    """Passes the events of Tune on to the observer."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.started: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.started.add(trial.trial_id)
        self.observer.started(trial.trial_id, trial.config)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.observer.epoch_ended(trial.trial_id, result["training_iteration"], _metrics(result))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trial.run_metadata.invalidate_cache()  # internal API; without it, Tune's checkpoints may miss that the trial ended
        self._end(trials, trial, trial.last_result or {})

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id in self.started:
            self._end(trials, trial, {})

    def _end(self, trials: list[Any], trial: Any, metrics: Mapping[str, Any]) -> None:
        finished = [each for each in trials if each.is_finished() and each.trial_id != trial.trial_id]
        ended = _trial(trial.trial_id, trial.config, metrics)
        losses = [_metrics(each.last_result or {}).get(METRIC, math.inf) for each in finished if each.status != "ERROR"]
        self.observer.ended(ended, len(finished) + 1, min([ended.loss, *losses]))
