"""Look at every image of a data set once: its classes, sizes, range of pixels, and files that cannot be read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.adoption.errors import AdoptError
from pipeline.data import folders, image_codec
from pipeline.data.errors import ImageFileError
from pipeline.ingestion import layout_dataset
from pipeline.ingestion.conversion import WHITE, Unreadable
from pipeline.ingestion.samples import ALL, Grey, Layout, natural_key

Size = tuple[int, int]

MOST_CLASSES = 256  # labels are uint8
MOST_SIDE = 128  # larger images are scaled down: a dense network has a weight per pixel and unit
_LIGHT, _EACH = 0.8, 7  # share of images with a light ground that are inverted; every seventh is looked at
_DARK = 64  # a data set whose brightest pixel is below this has another white than 255
_WHITE_OF_16_BITS = 65535


class Survey(NamedTuple):
    """What the images of a layout are like.

    `counts` are the images of each class by split; `sizes` count heights and widths; `white` is the value of white pixels;
    `light_ground` the share of images whose border is lighter than the middle of their range.
    """

    counts: Mapping[str, Counter[str]]
    sizes: Counter[Size]
    white: float
    light_ground: float
    unreadable: list[Unreadable]

    @property
    def inverted(self) -> bool:
        """Whether the images are dark ink on a light ground: a dense network learns them far better the other way round."""
        return self.light_ground > _LIGHT

    @property
    def total(self) -> int:
        """The number of images that can be read."""
        return self.sizes.total()


def look(layout: Layout) -> Survey:
    """Decode every image of `layout` once."""
    counts: dict[str, Counter[str]] = {}
    sizes: Counter[Size] = Counter()
    unreadable: list[Unreadable] = []
    brightest, deep, light, looked = 0.0, False, 0, 0
    for split, samples in layout_dataset.divided(layout).items():
        counts[split] = Counter()
        for sample in samples:
            try:
                pixels = sample.pixels()
            except (ImageFileError, OSError) as error:
                unreadable.append(Unreadable(sample.name, str(error)))
                continue
            counts[split][sample.label] += 1
            if sizes.total() % _EACH == 0:
                light, looked = light + _has_light_ground(pixels), looked + 1
            brightest, deep = max(brightest, float(pixels.max())), deep or pixels.dtype == np.uint16
            sizes[pixels.shape[0], pixels.shape[1]] += 1
    return Survey(counts, sizes, _white(brightest, deep), light / max(1, looked), unreadable)


def _has_light_ground(pixels: Grey) -> bool:
    return image_codec.border_median(pixels) > (float(pixels.max()) + float(pixels.min())) / 2


def _white(brightest: float, deep: bool) -> float:
    """The value of white: that of the type, unless no pixel comes near it."""
    if brightest > WHITE and deep:
        return _WHITE_OF_16_BITS
    return brightest if 0 < brightest < _DARK else WHITE


def class_names(survey: Survey, layout: Layout) -> list[str]:
    """The names of the classes: in the order of the layout's own labels if it has them, otherwise sorted naturally."""
    found = set().union(*survey.counts.values())
    ordered = [name for name in dict.fromkeys(layout.classes) if name in found]
    return ordered if len(ordered) == len(found) else sorted(found, key=natural_key)


def check(survey: Survey, classes: Sequence[str], max_unreadable: float) -> None:
    """Raise AdoptError if no model can be trained on the data."""
    total = survey.total + len(survey.unreadable)
    if len(survey.unreadable) > max_unreadable * total:
        named = folders.listed(f"{name} ({reason})" for name, reason in survey.unreadable)
        most = f"at most {max_unreadable:.2%} that cannot be read (fetch.max_unreadable)"
        raise AdoptError("image files", most, f"{len(survey.unreadable):,} of {total:,}: {named}", "Replace or remove them.")
    if len(classes) < 2:
        raise AdoptError(
            "classes", "at least two", f"{len(classes)}: {folders.listed(map(repr, classes))}", "Add another class."
        )
    if len(classes) > MOST_CLASSES:
        raise AdoptError("classes", f"at most {MOST_CLASSES}, because labels are uint8", str(len(classes)), "Merge classes.")
    train = survey.counts.get("train", survey.counts.get(ALL, Counter()))
    test = survey.counts.get("test")
    if test is not None:
        if unseen := [name for name in classes if not train[name]]:
            found = f"{folders.listed(map(repr, unseen))} in the test split only"
            raise AdoptError("classes", "training images of each", found, "Add images, or remove the class.")
        if untested := [name for name in classes if not test[name]]:
            found = f"{folders.listed(map(repr, untested))} in the training split only"
            raise AdoptError("classes", "test images of each", found, "Add images, or remove the class.")
    elif rare := [name for name in classes if train[name] < 2]:
        found = f"one of {folders.listed(map(repr, rare))}"
        raise AdoptError("classes", "two images of each, to train and to test", found, "Add images, or remove the class.")


def image_size(survey: Survey, chosen: Size | None) -> tuple[Size | None, str]:
    """The `fetch.size` and why; None if all images have one size already."""
    if chosen:
        return chosen, "as given with --size"
    (common, count), *others = survey.sizes.most_common()
    if max(common) > MOST_SIDE:
        factor = MOST_SIDE / max(common)
        height, width = (max(1, round(side * factor)) for side in common)
        return (height, width), f"the commonest size {_shown(common)}, scaled to {MOST_SIDE} pixels; --size sets another"
    if not others:
        return None, f"all images are {_shown(common)}"
    return common, f"the commonest size, of {count:,} of {survey.total:,} images; the others are scaled and padded"


def _shown(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
