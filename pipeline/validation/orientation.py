"""Recognise images that are stored transposed, as EMNIST stores them, by comparing them with the base training split.

The base data themselves have nothing to be compared with: if all of the data are transposed, this finds nothing.
"""

import numpy as np

from pipeline.data.datasets import Split
from pipeline.validation import near_duplicates
from pipeline.validation.label_issues import Labelled, margins

_SAMPLE = 2000  # images of each set
_DISAGREEING = 0.1  # least share of images that the base's classifier assigns to another class


def looks_transposed(base: Split, other: Split, classes: int) -> bool:
    """Whether a classifier fitted on the base disagrees with `other`, and far less with its images transposed."""
    if base.images.shape[1] != base.images.shape[2]:
        return False
    rows = np.random.default_rng(0).permutation(len(other.labels))[:_SAMPLE]
    images, labels = other.images[rows], other.labels[rows]
    embedder = near_duplicates.fit(base.images)
    known, *both = (
        Labelled(near_duplicates.embed(each, embedder).coefficients, truth)
        for each, truth in ((base.images, base.labels), (images, labels), (images.swapaxes(1, 2), labels))
    )
    as_stored, transposed = (float(np.isfinite(found).mean()) for found in margins(known, both, classes)[1:])
    return as_stored > _DISAGREEING and transposed < as_stored / 2
