import numpy as np
import numpy.typing as npt
import pytest

from pipeline.data.datasets import Pixels, Split
from pipeline.validation import near_duplicates
from pipeline.validation.near_duplicates import View

RADIUS = 0.025


def view(images: Pixels, space: near_duplicates.Space) -> View:
    return View(images, near_duplicates.place(images, space).shape, np.arange(len(images)))


def pairs(images: Pixels, others: Pixels | None = None, radius: float = RADIUS) -> list[tuple[int, int]]:
    space = near_duplicates.fit(images)
    first = view(images, space)
    second = first if others is None else view(others, space)
    return [(int(one), int(other)) for one, other in near_duplicates.twins(first, second, radius).T]


def measured(first: Pixels, second: Pixels) -> npt.NDArray[np.float64]:
    """How far apart images are, by NumPy's Fourier transform: the 60 coarsest waves of 28x28."""

    def strengths(images: Pixels) -> npt.NDArray[np.float64]:
        found = np.abs(np.fft.fft2(images.astype(np.float64)))
        rows = [found[:, down, right] for down in range(-5, 6) for right in range(6) if right > 0 or down > 0]
        return np.array(rows / np.linalg.norm(rows, axis=0)).T

    distances: npt.NDArray[np.float64] = np.linalg.norm(strengths(first) - strengths(second), axis=1)
    return distances


def test_distances_are_those_of_the_fourier_transform(subset: dict[str, Split]) -> None:
    first, second = subset["train"].images[:50], subset["test"].images[:50]

    found = np.linalg.norm(
        near_duplicates.strengths(near_duplicates.waves(first)) - near_duplicates.strengths(near_duplicates.waves(second)),
        axis=1,
    )

    np.testing.assert_allclose(found, measured(first, second), atol=1e-5)


def test_of_different_digits_none_are_twins(subset: dict[str, Split]) -> None:
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
def test_a_changed_copy_is_the_twin_of_its_image(change: object, subset: dict[str, Split]) -> None:
    images = subset["train"].images
    assert callable(change)
    copies = change(images[[7, 400]])

    assert pairs(copies, images) == [(0, 7), (1, 400)]
    assert sorted(pairs(np.concatenate([images, copies]))) == [(7, 3000), (400, 3001), (3000, 7), (3001, 400)]


def test_a_radius_of_0_finds_none(subset: dict[str, Split]) -> None:
    images = subset["train"].images[:100]

    assert pairs(images, images, radius=0) == []


def test_only_the_rows_asked_for_are_looked_at(subset: dict[str, Split]) -> None:
    images = subset["train"].images[:100]
    first = view(images, near_duplicates.fit(images))

    found = near_duplicates.twins(first._replace(rows=np.array([3, 5])), first._replace(rows=np.array([5, 8])), RADIUS)

    assert found.tolist() == [[5], [5]]


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (3, 5), (28, 28), (64, 48)])
def test_images_of_any_size_have_a_place(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *size), np.uint8)

    places = near_duplicates.place(images, near_duplicates.fit(images))

    assert np.isfinite(places.look).all()
    assert len(places.look) == len(places.shape) == 40
    assert places.look.shape[1] <= 30
    assert places.shape.shape[1] <= 12


def test_images_of_one_grey_are_all_the_same() -> None:
    images = np.repeat(np.array([0, 80, 255], np.uint8), 28 * 28).reshape(3, 28, 28)

    assert len(pairs(images)) == 3


def test_places_do_not_depend_on_how_many_images_are_placed_at_a_time(
    subset: dict[str, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = subset["test"].images
    space = near_duplicates.fit(images)
    whole = near_duplicates.place(images, space)

    monkeypatch.setattr(near_duplicates, "_CHUNK", 300)

    for part, expected in zip(near_duplicates.place(images, space), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-4, atol=1e-3)
