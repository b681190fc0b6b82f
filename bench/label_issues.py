"""Compare how label_issues and cleanlab find planted label errors: `python -m bench.label_issues`.

cleanlab gets the same features, as out-of-fold probabilities of scikit-learn's quadratic discriminant analysis. The errors are
planted into MNIST's training split. Each ranks all images; the result is the share of planted errors that it ranks above the
threshold at which it raises as many false alarms as label_issues does. Needs data/raw, cleanlab and scikit-learn.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt

from bench import report
from pipeline.core.paths import Paths
from pipeline.data import datasets
from pipeline.data.datasets import Pixels
from pipeline.validation import label_issues, near_duplicates
from pipeline.validation.label_issues import Labelled

Scores = npt.NDArray[np.floating]  # `(n,)`, higher for more likely issues
Rank = Callable[[Labelled], Scores]

CLASSES, FOLDS, SEEDS = 10, 2, 3
METHODS = ("self_confidence", "normalized_margin")
FILTERS = ("prune_by_noise_rate", "both", "confident_learning")


def flip(share: float) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """Give a share of the images another label, at random."""

    def plant(labels: Pixels, rng: np.random.Generator) -> Pixels:
        labels = labels.copy()
        rows = rng.choice(len(labels), round(len(labels) * share), replace=False)
        labels[rows] = (labels[rows] + rng.integers(1, CLASSES, len(rows))) % CLASSES
        return labels

    return plant


def fours_as_nines(labels: Pixels, rng: np.random.Generator) -> Pixels:
    """Label 4s as 9s, 1 % of all images."""
    labels = labels.copy()
    labels[rng.choice(np.flatnonzero(labels == 4), len(labels) // 100, replace=False)] = 9
    return labels


PLANTS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "1 % at random": flip(0.01),
    "10 % at random": flip(0.1),
    "1 %, 4s labelled 9": fours_as_nines,
}


def out_of_fold(data: Labelled) -> npt.NDArray[np.float64]:
    from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    from sklearn.model_selection import cross_val_predict

    probabilities: npt.NDArray[np.float64] = cross_val_predict(
        QuadraticDiscriminantAnalysis(), data.features, data.labels, cv=FOLDS, method="predict_proba"
    )
    return probabilities


def rank_by_label_issues(data: Labelled) -> Scores:
    (scores,) = label_issues.margins(data, [], CLASSES)
    return scores


def rank_by_cleanlab(method: str) -> Rank:
    def rank(data: Labelled) -> Scores:
        from cleanlab.rank import get_label_quality_scores

        return -np.asarray(get_label_quality_scores(data.labels.astype(int), out_of_fold(data), method=method))

    return rank


def share_found(scores: Scores, planted: npt.NDArray[np.bool_], alarms: int) -> float:
    """Return the share of planted errors that rank before the first `alarms` + 1 correct labels."""
    bound = np.sort(scores[~planted])[-alarms - 1]
    return float((scores[planted] > bound).mean())


def measure(rank: Rank, data: Labelled) -> tuple[Scores, float, float]:
    """Return the scores, the seconds, and the peak memory in megabytes."""
    start = time.perf_counter()
    scores = rank(data)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    rank(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return scores, seconds, peak / 1e6


def ranking_rows(features: near_duplicates.Floats, labels: Pixels) -> list[list[str]]:
    contenders = {
        "label_issues": rank_by_label_issues,
        **{f"cleanlab, {method}": rank_by_cleanlab(method) for method in METHODS},
    }
    rows = []
    for plant, change in PLANTS.items():
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contenders}
        alarms = []
        for seed in range(SEEDS):
            data = Labelled(features, change(labels, np.random.default_rng(seed)))
            planted = data.labels != labels
            for name, rank in contenders.items():
                scores, seconds, megabytes = measure(rank, data)
                if name == "label_issues":
                    alarms.append(int((scores[~planted] >= 0).sum()))
                results[name].append((share_found(scores, planted, alarms[-1]), seconds, megabytes))
        for name, each in results.items():
            share, seconds, megabytes = (median(values) for values in zip(*each, strict=True))
            rows.append([plant, name, f"{median(alarms):,.0f}", f"{share:.1%}", f"{seconds:.1f}", f"{megabytes:,.0f}"])
    return rows


def filter_rows(features: near_duplicates.Floats, labels: Pixels) -> list[list[str]]:
    """Return a row for each method: what it flags at its own threshold."""
    from cleanlab.filter import find_label_issues

    rows = []
    for plant, change in {"none": lambda labels, _: labels, **PLANTS}.items():
        data = Labelled(features, change(labels, np.random.default_rng(0)))
        planted, probabilities = data.labels != labels, out_of_fold(data)
        flags = {"label_issues": rank_by_label_issues(data) >= 0} | {
            f"cleanlab, {kind}": find_label_issues(data.labels.astype(int), probabilities, filter_by=kind, n_jobs=1)
            for kind in FILTERS
        }
        for name, flagged in flags.items():
            share = f"{flagged[planted].mean():.1%}" if planted.any() else ""
            rows.append([plant, name, f"{(flagged & ~planted).sum():,}", share])
    return rows


def main() -> int:
    images, labels = datasets.open_split(Paths(), "train")
    labels = np.asarray(labels)
    features = near_duplicates.embed(images, near_duplicates.fit(images)).coefficients
    described = report.machine("python -m bench.label_issues", "cleanlab", "scikit-learn", "numpy")
    ranked = report.table(
        ["errors planted", "ranked by", "false alarms", "planted errors found", "seconds", "MB"],
        ranking_rows(features, labels),
    )
    flagged = report.table(
        ["errors planted", "flagged by", "false alarms", "planted errors found"], filter_rows(features, labels)
    )
    described += f" {len(labels):,} images, medians of {SEEDS} draws."
    report.put("Label issues", f"{described}\n\n{ranked}\n\nEach at its own threshold:\n\n{flagged}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
