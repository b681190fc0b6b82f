import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.datasets import Pixels, Split
from pipeline.validation import label_issues, near_duplicates
from pipeline.validation.near_duplicates import Candidates

RADIUS = 0.025


def candidates(images: Pixels, embedder: near_duplicates.Embedder) -> Candidates:
    return Candidates(images, near_duplicates.embed(images, embedder).magnitudes, np.arange(len(images)))


def pairs(images: Pixels, others: Pixels | None = None, radius: float = RADIUS) -> list[tuple[int, int]]:
    embedder = near_duplicates.fit(images)
    first = candidates(images, embedder)
    second = first if others is None else candidates(others, embedder)
    return [(int(one), int(other)) for one, other in near_duplicates.duplicate_pairs(first, second, radius).T]


def numpy_distances(first: Pixels, second: Pixels) -> npt.NDArray[np.float64]:
    """Distances from NumPy's Fourier transform, over the 60 lowest frequencies of 28x28 images."""

    def magnitudes(images: Pixels) -> npt.NDArray[np.float64]:
        found = np.abs(np.fft.fft2(images.astype(np.float64)))
        rows = [found[:, down, right] for down in range(-5, 6) for right in range(6) if right > 0 or down > 0]
        return np.array(rows / np.linalg.norm(rows, axis=0)).T

    distances: npt.NDArray[np.float64] = np.linalg.norm(magnitudes(first) - magnitudes(second), axis=1)
    return distances


def test_distances_are_those_of_the_fourier_transform(subset: dict[str, Split]) -> None:
    first, second = subset["train"].images[:50], subset["test"].images[:50]

    found = np.linalg.norm(
        near_duplicates.fourier_magnitudes(near_duplicates.fourier_coefficients(first))
        - near_duplicates.fourier_magnitudes(near_duplicates.fourier_coefficients(second)),
        axis=1,
    )

    np.testing.assert_allclose(found, numpy_distances(first, second), atol=1e-5)


def test_different_digits_are_not_near_duplicates(subset: dict[str, Split]) -> None:
    assert pairs(subset["train"].images) == []
    assert pairs(subset["train"].images, subset["test"].images) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda images: np.roll(images, (1, 2), (1, 2)),
        lambda images: 255 - images,
        lambda images: np.rint(images * 0.9).astype(np.uint8),
        lambda images: images ^ np.uint8(1),
    ],
    ids=["shifted", "inverted", "darker", "lowest bit flipped"],
)
def test_a_changed_copy_is_paired_with_its_image(change: object, subset: dict[str, Split]) -> None:
    images = subset["train"].images
    assert callable(change)
    copies = change(images[[7, 400]])

    assert pairs(copies, images) == [(0, 7), (1, 400)]
    assert sorted(pairs(np.concatenate([images, copies]))) == [(7, 3000), (400, 3001), (3000, 7), (3001, 400)]


def test_a_radius_of_0_finds_none(subset: dict[str, Split]) -> None:
    images = subset["train"].images[:100]

    assert pairs(images, images, radius=0) == []


def test_only_the_given_rows_are_searched(subset: dict[str, Split]) -> None:
    images = subset["train"].images[:100]
    first = candidates(images, near_duplicates.fit(images))

    found = near_duplicates.duplicate_pairs(
        first._replace(rows=np.array([3, 5])), first._replace(rows=np.array([5, 8])), RADIUS
    )

    assert found.tolist() == [[5], [5]]


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 5), (28, 28), (64, 48)])
def test_images_of_any_size_are_embedded(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *size), np.uint8)

    embeddings = near_duplicates.embed(images, near_duplicates.fit(images))

    assert np.isfinite(embeddings.coefficients).all()
    assert len(embeddings.coefficients) == len(embeddings.magnitudes) == 40
    assert embeddings.coefficients.shape[1] <= 30
    assert embeddings.magnitudes.shape[1] <= 12


def test_images_of_one_grey_value_are_all_near_duplicates() -> None:
    images = np.repeat(np.array([0, 80, 255], np.uint8), 28 * 28).reshape(3, 28, 28)

    assert len(pairs(images)) == 3


def test_embeddings_do_not_depend_on_the_size_of_the_chunks(subset: dict[str, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    images = subset["test"].images
    embedder = near_duplicates.fit(images)
    whole = near_duplicates.embed(images, embedder)

    monkeypatch.setattr(near_duplicates, "_CHUNK", 300)

    for part, expected in zip(near_duplicates.embed(images, embedder), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-3)


def test_images_of_one_pixel_have_no_near_duplicates_and_no_label_issues() -> None:
    images = np.arange(200, dtype=np.uint8).reshape(-1, 1, 1)
    embeddings = near_duplicates.embed(images, near_duplicates.fit(images))
    every = Candidates(images, embeddings.magnitudes, np.arange(200))
    labelled = label_issues.Labelled(embeddings.coefficients, (images[:, 0, 0] % 2).astype(np.uint8))

    assert near_duplicates.duplicate_pairs(every, every, 0.1).shape == (2, 0)
    assert not label_issues.find_label_issues(labelled, [], 2)[0].any()
