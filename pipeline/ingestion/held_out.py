"""Hold out a test split where the data have none.

Each image goes by the hash of its own pixels, so that it stays in its split when more images come (A. Geron, Hands-On Machine
Learning, 2019, chapter 2). Near-duplicates stay together: if one of them belongs in the test split, all of them do.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from pipeline.data.idx import Pixels

_MOST_ROUNDS = 50
_CHUNK = 10_000

Mask = npt.NDArray[np.bool_]


def test_images(images: Pixels, labels: Pixels, share: float, radius: float) -> Mask:
    """Which images `(n, height, width)` belong in the test split, `(n,)`: about `share` of each class, and at least one.

    Args:
        radius: images closer than this count as near-duplicates, as in `validate.near_duplicate_distance`.
    """
    positions = content_positions(images)
    chosen = positions < share
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if not chosen[own].any():
            chosen[positions == positions[own].min()] = True
        elif chosen[own].all() and len(np.unique(positions[own])) > 1:
            chosen[positions == positions[own].max()] = False
    return _with_near_duplicates(images, positions, chosen, radius) if radius else chosen


def content_positions(images: Pixels) -> npt.NDArray[np.float64]:
    """A number of 0 to 1 for each image, from its pixels alone: equal images have equal numbers."""
    digests = b"".join(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest() for image in images)
    return np.frombuffer(digests, ">u8") / 2.0**64


def _with_near_duplicates(images: Pixels, positions: npt.NDArray[np.float64], chosen: Mask, radius: float) -> Mask:
    """Add the near-duplicates of the chosen images, theirs, and so on."""
    from pipeline.validation import near_duplicates
    from pipeline.validation.near_duplicates import Candidates

    embedder = near_duplicates.fit(images)
    magnitudes = np.concatenate(
        [near_duplicates.embed(images[start : start + _CHUNK], embedder).magnitudes for start in range(0, len(images), _CHUNK)]
    )
    _, firsts, groups = np.unique(positions, return_index=True, return_inverse=True)
    chosen, new = chosen.copy(), chosen
    for _ in range(_MOST_ROUNDS):
        fresh, rest = firsts[new[firsts]], firsts[~chosen[firsts]]
        if not (len(fresh) and len(rest)):
            break
        found = near_duplicates.duplicate_pairs(
            Candidates(images, magnitudes, rest), Candidates(images, magnitudes, fresh), radius
        )[0]
        if not len(found):
            break
        new = np.isin(groups, groups[found])
        chosen |= new
    return chosen
