"""Name the format of a file that is not an image which can be decoded, and say what to convert it to."""

_HEIF = ("heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1")
_PICTURE = "convert it to PNG or JPEG"
_PAGES = "export its page as PNG"
# (first bytes, name, what to do)
_KINDS = (
    (b"%PDF-", "a PDF document", _PAGES),
    (b"%!PS", "a PostScript file", _PAGES),
    (b"8BPS", "a Photoshop file", _PICTURE),
    (b"\xff\x0a", "a JPEG XL picture", _PICTURE),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", _PICTURE),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _PICTURE),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _PICTURE),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", _PICTURE),
    (b"#?RADIANCE", "a Radiance picture", _PICTURE),
    (b"\0\0\x01\0", "an icon", _PICTURE),
    (b"FUJIFILMCCD-RAW", "a camera's raw file", _PICTURE),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "a gzip file", "unpack it"),
    (b"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull`"),
)


def describe(start: bytes) -> str | None:
    """Return the name of the format that the first bytes of a file belong to, and the remedy; None if it is not known."""
    if start[4:8] == b"ftyp":
        return _media(start)
    for magic, name, remedy in _KINDS:
        if start.startswith(magic):
            return f"{name}: {remedy}"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return f"an SVG drawing: {_PAGES.replace('its page', 'it')}"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not the picture on it: download the picture itself"
    return None


def _media(start: bytes) -> str:
    """The format of an ISO base media file, by its brands."""
    length = int.from_bytes(start[:4], "big")
    brands = [start[at : at + 4].decode("latin-1") for at in (8, *range(16, min(length, len(start)), 4))]
    if {"avif", "avis"}.intersection(brands):
        return f"a damaged AVIF picture, or one that this Pillow cannot read: {_PICTURE}"
    if set(_HEIF).intersection(brands):
        return f"a HEIC picture, as phones take them: {_PICTURE}"
    return "a video: save one picture of it as PNG or JPEG"
