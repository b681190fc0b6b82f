"""Write a labelled data set in every layout that people have."""

import csv
import json
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.datasets import Pixels, Split
from tests.conftest import write_source

Data = dict[str, Split]
Writer = Callable[[Path, Data], Path]


def png(image: Pixels) -> bytes:
    out = BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def idx_files(root: Path, data: Data) -> Path:
    return write_source(root / "idx", data)


def class_folders(root: Path, data: Data) -> Path:
    """A folder per split and class; the images are numbered, so that their order can be told."""
    for name, split in data.items():
        for number, (image, label) in enumerate(zip(*split, strict=True)):
            path = root / "folders" / name / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))
    return root / "folders"


def pixel_table(root: Path, data: Data) -> Path:
    """As Kaggle's digit recognizer, one table for each split."""
    (root / "pixels").mkdir()
    for name, (images, labels) in data.items():
        with (root / "pixels" / f"digits_{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", *(f"pixel{number}" for number in range(images[0].size))])
            writer.writerows([label, *image.ravel()] for image, label in zip(images, labels, strict=True))
    return root / "pixels"


def name_table(root: Path, data: Data) -> Path:
    """One table of file names, labels and splits beside a folder of images."""
    (root / "names" / "images").mkdir(parents=True)
    with (root / "names" / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "split"])
        for name, split in data.items():
            for number, (image, label) in enumerate(zip(*split, strict=True)):
                (root / "names" / "images" / f"{name}{number}.png").write_bytes(png(image))
                writer.writerow([f"images/{name}{number}.png", label, name])
    return root / "names"


def keras_npz(root: Path, data: Data) -> Path:
    """As Keras ships its data sets, with labels of another type than uint8."""
    arrays = {f"x_{name}": split.images for name, split in data.items()}
    np.savez_compressed(
        root / "keras.npz", **arrays, **{f"y_{name}": split.labels.astype("i8") for name, split in data.items()}
    )
    return root / "keras.npz"


def hub_parquet(root: Path, data: Data) -> Path:
    """As the Hugging Face hub serves a data set: shards in the folder data, class names in the schema's metadata."""
    import pyarrow as pa
    from pyarrow import parquet

    names = [str(number) for number in range(10)]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())], metadata=metadata)
    (root / "hub" / "data").mkdir(parents=True)
    for name, split in data.items():
        for shard, rows in enumerate(np.array_split(np.arange(len(split.labels)), 2)):
            images = [{"bytes": png(split.images[row]), "path": None} for row in rows]
            table = pa.table({"image": images, "label": split.labels[rows].astype("i8")}, schema=schema)
            parquet.write_table(table, root / "hub" / "data" / f"{name}-{shard:05}-of-00002.parquet", row_group_size=7)
    return root / "hub"


def zipped(root: Path, data: Data) -> Path:
    """An archive that unpacks into one folder of its own name, as those of Kaggle, with what macOS adds."""
    source = class_folders(root, data)
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for path in sorted(source.rglob("*.png")):
            archive.write(path, f"photos/photos/{path.relative_to(source)}")
        archive.writestr("__MACOSX/photos/._1.png", b"resource fork")
        archive.writestr("photos/README.txt", b"read me")
    return root / "photos.zip"


def tarred(root: Path, data: Data) -> Path:
    with tarfile.open(root / "photos.tar.gz", "w:gz") as archive:
        archive.add(class_folders(root, data), "photos")
    return root / "photos.tar.gz"


WRITERS: dict[str, Writer] = {
    "IDX files": idx_files,
    "a folder per class": class_folders,
    "a CSV of labels and pixels": pixel_table,
    "a CSV of file names and labels": name_table,
    "an npz file": keras_npz,
    "Parquet of images and labels": hub_parquet,
    "a folder per class, in photos.zip": zipped,
    "a folder per class, in photos.tar.gz": tarred,
}
