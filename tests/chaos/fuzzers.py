"""The fuzzing targets, each in its own process: `python -m tests.chaos.fuzzers TARGET FOLDER [libFuzzer's options] CORPUS`.

A target takes any bytes. The code under test may raise only PipelineError, and must read accepted input correctly. The first
byte selects a form for the rest, such as compressed or with valid checksums; otherwise most inputs would be refused early.
Each input is written to a file in FOLDER, because the readers open files.
"""

import gzip
import io
import re
import resource
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris

_MEMORY = 4 << 30  # bytes of address space
_MAX = 100_000  # pixels of an image or bytes of an array, for speed; other tests cover the real bounds

Target = Callable[[bytes], None]


def idx_files(folder: Path) -> Target:
    """IDX files as fetch reads them: plain, gzipped, and gzipped then damaged."""
    with atheris.instrument_imports(include=["pipeline.data.idx", "pipeline.ingestion.sources", "gzip", "_compression"]):
        from pipeline.core import params
        from pipeline.data import idx
        from pipeline.ingestion import sources
    from pipeline.core.errors import PipelineError

    limits = params.load(Path("params.yaml")).fetch.model_copy(update={"max_bytes": _MAX})
    file, npy = folder / "data", folder / "data.npy"

    def target(data: bytes) -> None:
        form, content = data[:1] or b"\0", data[1:]
        dimensions = 1 if form[0] & 1 else 3
        packed = (content, gzip.compress(content, 1), _damaged(gzip.compress(content[8:], 1), content[:8]))[form[0] // 2 % 3]
        file.write_bytes(packed)
        try:
            with sources.opened(str(folder), "data", limits) as stream:
                assert stream
                decoded = idx.decode(stream, dimensions, npy, _MAX)
        except PipelineError:
            return
        shape = struct.unpack(f">{dimensions}I", _header(packed, 4 + 4 * dimensions)[4:])
        assert decoded.shape == shape
        assert idx.sha256(npy) == decoded.sha256

    return target


def _header(packed: bytes, size: int) -> bytes:
    return gzip.open(io.BytesIO(packed)).read(size) if packed[:2] == b"\x1f\x8b" else packed[:size]


def _damaged(content: bytes, edit: bytes) -> bytes:
    """`content`, truncated or with some bytes replaced, depending on `edit`."""
    if len(edit) < 8:
        return content
    position = int.from_bytes(edit[:2]) % (len(content) + 1)
    return content[:position] if edit[2] & 1 else content[:position] + edit[3:8] + content[position + 5 :]


def params_files(folder: Path) -> Target:
    """Any YAML, a section of params.yaml with inserted text, or params.yaml with other values."""
    with atheris.instrument_imports(
        include=["pipeline.core.params", "pipeline.core.params_errors", "ruamel.yaml.scanner", "ruamel.yaml.constructor"]
    ):
        from pipeline.core import params
    from pipeline.core.errors import PipelineError

    path = Path("params.yaml")
    written = path.read_bytes()
    texts = [section.splitlines() for section in re.split(rb"\n(?=[a-z])", written)[1:]]
    texts = [[line.partition(b"  #")[0] + b"\n" for line in text if b"  # " not in line[:4]] for text in texts]

    def edited(data: atheris.FuzzedDataProvider) -> bytes:
        lines = data.PickValueInList(texts)
        start = data.ConsumeIntInRange(0, len(lines) - 1)
        lines = [lines[0], *lines[max(1, start) : start + 4]]  # few, because YAML parses slowly
        line = data.ConsumeIntInRange(0, len(lines) - 1)
        cut = data.ConsumeIntInRange(0, len(lines[line]))
        rest = lines[line][cut + data.ConsumeIntInRange(0, 8) :]
        lines[line] = lines[line][:cut] + data.ConsumeBytes(32) + rest
        return b"".join(lines)

    def target(raw: bytes) -> None:
        form, data = raw[:1] or b"\0", atheris.FuzzedDataProvider(raw[1:])
        try:
            if form[0] % 3 == 2:
                content = params.parse(written, path) if not cache else _copied(cache[0])
                cache[:] = [_copied(content)]
                for _ in range(data.ConsumeIntInRange(1, 3)):
                    _replace_somewhere(content, data)
            else:
                content = params.parse(raw[1:] if form[0] % 3 == 0 else edited(data), path)
            result, message = params.check(content, path).model_dump(), ""
        except PipelineError as error:
            result, message = {}, str(error)
        assert result or len(message) < 100_000, "the message is too long to read"

    cache: list[Any] = []
    return target


def _copied(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    return [_copied(value) for value in content] if isinstance(content, list) else content


def _replace_somewhere(content: Any, data: atheris.FuzzedDataProvider) -> None:
    """Set, add or remove one value at any depth."""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        key = data.PickValueInList(keys) if keys else None
        if key is not None and isinstance(content[key], dict | list) and data.ConsumeIntInRange(0, 7):
            content = content[key]
            continue
        action = data.ConsumeIntInRange(0, 5)
        if isinstance(content, dict) and action == 0:
            content[_value(data, 0) if data.ConsumeBool() else data.ConsumeUnicode(8)] = _value(data, 3)
        elif key is not None and action == 1:
            del content[key]
        elif key is not None:
            content[key] = _value(data, 3)
        return


def _value(data: atheris.FuzzedDataProvider, depth: int) -> Any:
    """Any value that YAML can contain."""
    kind = data.ConsumeIntInRange(0, 9 if depth else 6)
    if kind == 7:
        return [_value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    if kind >= 8:
        return {data.ConsumeUnicode(4): _value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))}
    simple = (None, True, data.ConsumeInt(9), data.ConsumeFloat(), data.ConsumeUnicode(8), data.ConsumeBytes(4), 10**5000)
    return simple[kind]


def onnx_files(folder: Path) -> Target:
    """Any bytes, or a model with changed fields. A model that opens must predict."""
    with atheris.instrument_imports(include=["pipeline.inference.onnx_model"]):
        from pipeline.inference import onnx_model
    import numpy as np
    import onnx

    from pipeline.core.errors import PipelineError

    file = folder / "model.onnx"
    seed = (folder / "seed.onnx").read_bytes()

    def target(data: bytes) -> None:
        form, content = data[:1] or b"\0", data[1:]
        if form[0] & 1:
            proto = onnx.load_model_from_string(seed)
            provider = atheris.FuzzedDataProvider(content)
            for _ in range(provider.ConsumeIntInRange(1, 4)):
                _change_somewhere(proto, provider)
            content = proto.SerializeToString()
        file.write_bytes(content)
        try:
            model = onnx_model.OnnxModel(file, threads=1)
            assert len(model.names) == model.classes
            height, width = model.image_shape
            if height * width <= _MAX:
                assert model.predict(np.zeros((2, height, width), np.uint8)).shape == (2, model.classes)
        except PipelineError:
            pass

    return target


def _messages(message: Any) -> Iterator[Any]:
    yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.is_repeated else [value]:
                yield from _messages(part)


def _change_somewhere(proto: Any, data: atheris.FuzzedDataProvider) -> None:
    """Set, add or remove one field of any message in a protobuf."""
    message = data.PickValueInList(list(_messages(proto)))
    field = data.PickValueInList(list(message.DESCRIPTOR.fields))
    action = data.ConsumeIntInRange(0, 3)
    if action == 0:
        message.ClearField(field.name)
        return
    current = getattr(message, field.name)
    if field.message_type:
        if not field.is_repeated:
            current.SetInParent()
        elif action == 1 or not current:
            current.add()
        elif action == 2:
            current.append(data.PickValueInList(list(current)))
        else:
            del current[data.ConsumeIntInRange(0, len(current) - 1)]
        return
    value = _scalar(field, current, data)
    if not field.is_repeated:
        setattr(message, field.name, value)
    elif current and action == 1:
        current[data.ConsumeIntInRange(0, len(current) - 1)] = value
    else:
        current.append(value)


def _scalar(field: Any, current: Any, data: atheris.FuzzedDataProvider) -> Any:
    if field.cpp_type == field.CPPTYPE_ENUM:
        return data.PickValueInList([value.number for value in field.enum_type.values])
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return data.ConsumeRegularFloat() if field.cpp_type == field.CPPTYPE_DOUBLE else float(data.ConsumeInt(2))
    if field.cpp_type == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return data.ConsumeBytes(64)
        names = ["image", "probabilities", "kernel_0", "../model.onnx", "/etc/hostname", "location", "", "ai.onnx", "batch"]
        return data.PickValueInList(names) if data.ConsumeBool() else data.ConsumeUnicodeNoSurrogates(12)
    bits = 31 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 63
    low = 0 if field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64) else -(2**bits)
    edges = [0, 1, 2, 7, 18, 2**bits - 1, low]
    return data.PickValueInList(edges) if data.ConsumeBool() else data.ConsumeIntInRange(low, 2**bits - 1)


def images_and_arrays(folder: Path) -> Target:
    """Images and arrays, read by their file name; PNG and zip also with valid checksums."""
    plugins = ("Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP")
    modules = [
        "pipeline.data.image_codec",
        "pipeline.serving.preprocessing",
        "pipeline.serving.image_files",
        "pipeline.data.npz",
        "pipeline.data.idx",
        "zipfile",
    ]
    with atheris.instrument_imports(include=[*modules, *(f"PIL.{name}ImagePlugin" for name in plugins)]):
        from PIL import (  # noqa: F401 - imported so that the fuzzer instruments them
            BmpImagePlugin,
            GifImagePlugin,
            JpegImagePlugin,
            PngImagePlugin,
            PpmImagePlugin,
            TiffImagePlugin,
            WebPImagePlugin,
        )

        from pipeline.data import image_codec
        from pipeline.serving import image_files
    from pipeline.core.errors import PipelineError

    image_codec.MOST_PIXELS = image_files._MOST_BYTES = _MAX
    names = ("a.png", "a.npy", "a.npz", "a-idx3-ubyte", "a-idx3-ubyte.gz", "a.tiff", "zip of data", "gzip of data")

    def target(data: bytes) -> None:
        form, content = data[:1] or b"\0", data[1:]
        shape = (4, 5) if form[0] & 8 else (28, 28)
        name = names[form[0] & 7]
        if name == "zip of data":
            name, content = "a.npz", _zipped({"images.npy": content} | ({"b.npy": b""} if form[0] & 16 else {}))
        elif name == "gzip of data":
            name, content = "a-idx3-ubyte.gz", gzip.compress(content, 1)
        elif form[0] & 16:
            content = _with_checksums(content)
        file = folder / name
        file.write_bytes(content)
        try:
            images = image_files.read(file, shape)
        except PipelineError:
            return
        assert images.pixels.dtype == "uint8"
        assert images.pixels.shape[1:] == shape
        int(images.pixels.sum())  # reads all of a memory-mapped file

    return target


def _zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _with_checksums(png: bytes) -> bytes:
    """A PNG with the checksums of its chunks corrected, up to the first invalid length."""
    parts, position = [png[:8]], 8
    while position + 12 <= len(png):
        length = int.from_bytes(png[position : position + 4])
        chunk = png[position + 4 : position + 8 + length]
        parts += [png[position : position + 4], chunk, zlib.crc32(chunk).to_bytes(4)]
        position += 12 + length
    return b"".join(parts)


TARGETS = {"idx": idx_files, "params": params_files, "onnx": onnx_files, "images": images_and_arrays}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    tempfile.tempdir = str(folder)
    target = TARGETS[name](folder)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    atheris.Setup([sys.argv[0], *sys.argv[3:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
