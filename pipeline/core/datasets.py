"""The data: IDX decoding, the arrays on disk, and the splits.

Images are `(n, height, width)` uint8, 0 black to 255 white; labels are `(n,)` uint8, an index into the classes.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core import files
from pipeline.core.errors import IdxError, MismatchError, UnusableInputError
from pipeline.core.params import FetchParams
from pipeline.core.paths import Paths

Pixels = npt.NDArray[np.uint8]

FILES = ("train_images", "train_labels", "test_images", "test_labels")
DIMENSIONS = {"images": 3, "labels": 1}

_UINT8 = 0x08  # The IDX code of the element type: http://yann.lecun.com/exdb/mnist/, "the IDX file format"
_CHUNK = 1 << 20

# Which images are held out for validation does not follow train.seed: runs that differ only in their seed are compared on
# the same images.
_HELD_OUT_SEED = 0


class Split(NamedTuple):
    """Images `(n, height, width)` uint8 and labels `(n,)` uint8 of the same n."""

    images: Pixels
    labels: Pixels


class Decoded(NamedTuple):
    """What `decode_idx` wrote: the shape, and the SHA-256 of the IDX file's decompressed content."""

    shape: tuple[int, ...]
    sha256: str


def decode_idx(stream: BinaryIO, dimensions: int, npy: Path, max_bytes: int) -> Decoded:
    """Copy an IDX stream of uint8 to the `.npy` file at `npy`, in constant memory.

    The header decides how many bytes are read, and `max_bytes` bounds what the header may ask for.

    Raises:
        IdxError: the magic number, element type, number of dimensions or length is not right.
    """
    header = _read(stream, 4, "an IDX header")
    zeros, kind, found = struct.unpack(">HBB", header)
    if zeros != 0 or found == 0:
        raise IdxError("the magic number of an IDX file", f"bytes {header.hex(' ')}")
    if kind != _UINT8:
        raise IdxError("elements of type uint8 (0x08)", f"type 0x{kind:02x}")
    if found != dimensions:
        raise IdxError(f"{_meaning(dimensions)} of {dimensions} dimension(s)", f"{_meaning(found)} of {found}")
    sizes = _read(stream, 4 * dimensions, "the sizes in an IDX header")
    shape = struct.unpack(f">{dimensions}I", sizes)
    length = math.prod(shape)
    if length == 0:
        raise IdxError("at least one element", f"shape {shape}")
    if length > max_bytes:
        raise IdxError(f"at most {max_bytes:,} bytes (fetch.max_bytes)", f"a header that announces {length:,}")

    digest = hashlib.sha256(header + sizes)
    with npy.open("wb") as out:
        np.lib.format.write_array_header_1_0(
            out, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        )
        left = length
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise IdxError(f"{length:,} bytes for shape {shape}", f"{length - left:,}: the file is truncated")
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
    if stream.read(1):
        raise IdxError(f"{length:,} bytes for shape {shape}", "more: trailing bytes follow")
    return Decoded(shape, digest.hexdigest())


def _read(stream: BinaryIO, size: int, what: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise IdxError(f"{what} ({size} bytes)", f"{len(content)} bytes")
    return content


def _meaning(dimensions: int) -> str:
    return {3: "images", 1: "labels"}.get(dimensions, "an array")


def check_shapes(shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise MismatchError unless each split has a label for each image, and both splits images of one size."""
    for split in ("train", "test"):
        images, labels = shapes[f"{split}_images"][0], shapes[f"{split}_labels"][0]
        if images != labels:
            raise MismatchError(f"{split} split", "a label for each image", f"{images:,} images and {labels:,} labels")
    train, test = ("x".join(map(str, shapes[f"{split}_images"][1:])) for split in ("train", "test"))
    if train != test:
        raise MismatchError("images", "one size", f"{train} in the train and {test} in the test split")


def manifest(decoded: Mapping[str, Decoded], params: FetchParams) -> dict[str, Any]:
    """Describe the arrays by what they are and not by where they came from: equal data gives an equal manifest."""
    content = {
        "dataset": params.dataset,
        "classes": list(params.classes),
        "licence": params.licence,
        "files": {name: {"shape": list(decoded[name].shape), "sha256": decoded[name].sha256} for name in FILES},
    }
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {"fingerprint": fingerprint, **content}


def load(paths: Paths, split: str) -> Split:
    """Memory-map the `train` or `test` split, after hashing both files again.

    Raises:
        MissingInputError: a file is not there.
        UnusableInputError: a file is not the one that the manifest names.
    """
    expected = files.read_json(paths.manifest)["files"]
    for kind in DIMENSIONS:
        path, pinned = _npy(paths, split, kind), expected[f"{split}_{kind}"]["sha256"]
        found = idx_sha256(path)
        if found != pinned:
            shown = f"{found[:12]}…" if found else "no array of uint8"
            raise UnusableInputError(path, f"content with SHA-256 {pinned[:12]}…", shown)
    return open_split(paths, split)


def open_split(paths: Paths, split: str) -> Split:
    """Memory-map a split without hashing it, where its content is not what matters."""
    images, labels = (np.load(_npy(paths, split, kind), mmap_mode="r", allow_pickle=False) for kind in DIMENSIONS)
    return Split(images, labels)


def _npy(paths: Paths, split: str, kind: str) -> Path:
    return files.require(paths.raw / f"{split}_{kind}.npy")


def idx_sha256(path: Path) -> str | None:
    """SHA-256 of the IDX file that the uint8 `.npy` file at `path` was decoded from; None when it is no such file."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
            digest = hashlib.sha256(struct.pack(f">HBB{len(shape)}I", 0, _UINT8, len(shape), *shape))
        except Exception:  # numpy reads the header as Python, so a damaged one fails in as many ways as Python has
            return None
        if version != (1, 0) or transposed or dtype != np.uint8:
            return None
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def shape(npy: Path) -> tuple[int, ...]:
    """The shape of the array at `npy`, from its header."""
    return tuple(np.load(npy, mmap_mode="r", allow_pickle=False).shape)


def hold_out(count: int, fraction: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Divide `count` training samples into indices to fit on and, of about `fraction`, indices to validate on.

    Both are sorted, disjoint and complete. The second is empty when `fraction` is 0.
    """
    order = np.random.default_rng(_HELD_OUT_SEED).permutation(count)
    size = round(count * fraction)
    return np.sort(order[size:]), np.sort(order[:size])
