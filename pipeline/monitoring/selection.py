"""Choose which images to label: a random part, which measures, and an informative part, which teaches.

The informative part takes the images between whose two likeliest classes the champion decides by the smallest margin (T.
Scheffer, C. Decomain and S. Wrobel, "Active hidden Markov models for information extraction", 2001), spread over clusters of
similar images as in Cluster-Margin (G. Citovsky et al., "Batch active learning at scale", NeurIPS 2021): several times as many
candidates as wanted are clustered, and the clusters, the smallest first, give one image after the other in turn.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.data.idx import Pixels
from pipeline.inference.onnx_model import Probabilities
from pipeline.validation import near_duplicates
from pipeline.validation.near_duplicates import Candidates, Embeddings

Rows = npt.NDArray[np.intp]

_CANDIDATES = 2  # per image wanted; with more, those that the champion is sure of come in
_MOST_CLUSTERED = 5000  # memory grows with the square


class Chosen(NamedTuple):
    """The rows of the chosen images, which share none, and how many images of the source are known."""

    random: Rows
    informative: Rows
    known: int


def margins(probabilities: Probabilities) -> npt.NDArray[np.float32]:
    """The probability of the likeliest class minus that of the second, `(n,)`, 0 to 1."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def choose(
    images: Pixels, probabilities: Probabilities, known: Pixels, random: int, informative: int, radius: float
) -> Chosen:
    """Choose among `images`; equal arguments give an equal choice.

    The random part comes first: a uniform sample of the images that are not known. Of images that are nearly the same, only
    one is chosen, in both parts together.

    Args:
        known: images that have a label already, `(n, height, width)` uint8; these, and what is nearly the same, are left out.
        radius: images closer than this count as nearly the same, as in `validate.near_duplicate_distance`.
    """
    embedder = near_duplicates.fit(images)
    embeddings = near_duplicates.embed(images, embedder)
    new = ~_near(images, embeddings, known, near_duplicates.embed(known, embedder) if len(known) else None, radius)
    groups = _groups(images, embeddings, radius)
    order = np.random.default_rng(_seed(images)).permutation(len(images))
    drawn = _one_of_each(order[new[order]], groups)[:random]
    rest = np.flatnonzero(new & ~np.isin(groups, groups[drawn]))
    margin = margins(probabilities)
    ranked = _one_of_each(rest[np.argsort(margin[rest], kind="stable")], groups)
    candidates = ranked[: min(_MOST_CLUSTERED, _CANDIDATES * informative)]
    return Chosen(drawn, diverse(candidates, embeddings.coefficients[candidates], informative), int((~new).sum()))


def diverse(ranked: Rows, features: npt.NDArray[np.float32], wanted: int) -> Rows:
    """Choose `wanted` of `ranked` rows, the most informative first, spread over clusters of their `features` `(n, axes)`."""
    if len(ranked) <= wanted or wanted < 2:
        return ranked[:wanted]
    from scipy.cluster.hierarchy import fcluster, linkage

    clusters = fcluster(linkage(features, "average"), wanted, "maxclust")
    sizes = np.bincount(clusters)
    turn = np.empty(len(ranked), np.intp)  # the how-manieth of its cluster each is
    for cluster in np.unique(clusters):
        own = np.flatnonzero(clusters == cluster)
        turn[own] = np.arange(len(own))
    first = np.lexsort((np.arange(len(ranked)), sizes[clusters], turn))[:wanted]
    return ranked[np.sort(first)]


def _seed(images: Pixels) -> list[int]:
    """A seed from the images, so that nobody chooses it."""
    return list(hashlib.sha256(np.ascontiguousarray(images).data).digest())


def _contents(images: Pixels) -> npt.NDArray[np.void]:
    """What compares equal for equal images, `(n,)`."""
    flat = np.ascontiguousarray(images).reshape(len(images), -1)
    return flat.view(np.dtype((np.void, flat.shape[1]))).ravel()


def _distinct(images: Pixels) -> tuple[Rows, Rows]:
    """The first row of each different image, and for each row which of these is equal to it."""
    _, firsts, inverse = np.unique(_contents(images), return_index=True, return_inverse=True)
    return firsts, inverse.ravel()


def _near(
    images: Pixels, embeddings: Embeddings, known: Pixels, others: Embeddings | None, radius: float
) -> npt.NDArray[np.bool_]:
    """Which images are equal to one of `known`, or nearly the same, `(n,)`."""
    if others is None:
        return np.zeros(len(images), bool)
    found = np.isin(_contents(images), _contents(known))
    if radius:
        firsts, inverse = _distinct(images)
        pairs = near_duplicates.duplicate_pairs(
            Candidates(images, embeddings.magnitudes, firsts),
            Candidates(known, others.magnitudes, _distinct(known)[0]),
            radius,
        )
        found |= np.isin(inverse, inverse[pairs[0]])
    return found


def _groups(images: Pixels, embeddings: Embeddings, radius: float) -> Rows:
    """A number for each image, `(n,)`, which those share that are nearly the same, also by way of others."""
    firsts, inverse = _distinct(images)
    if not radius or len(firsts) < 2:
        return inverse
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    candidates = Candidates(images, embeddings.magnitudes, firsts)
    one, other = inverse[near_duplicates.duplicate_pairs(candidates, candidates, radius)]
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(len(firsts), len(firsts)))
    groups: Rows = connected_components(graph, directed=False)[1][inverse]
    return groups


def _one_of_each(rows: Rows, groups: Rows) -> Rows:
    """The first row of each group, in the order of `rows`."""
    _, firsts = np.unique(groups[rows], return_index=True)
    return rows[np.sort(firsts)]
