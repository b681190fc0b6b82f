"""Archives on disks that do not tell apart names by their case, as those of macOS."""

import zipfile
from pathlib import Path

import pytest

from pipeline.ingestion import archives
from pipeline.ingestion.samples import LayoutError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("A/1.PNG", b"upper")
        made.writestr("a/1.PNG", b"lower")
    return path


def test_two_names_that_are_one_file_on_this_disk_are_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists, folder = Path.exists, tmp_path / "unpacked"

    def exists_in_any_case(path: Path, **options: bool) -> bool:
        inside = path.is_relative_to(folder)
        return exists(folder / path.relative_to(folder).as_posix().upper() if inside else path, **options)

    monkeypatch.setattr(Path, "exists", exists_in_any_case)

    with pytest.raises(LayoutError, match=r"expected names that differ in more than their case.*found a/1\.PNG"):
        archives.unpack(archive, folder, 100)

    monkeypatch.undo()
    assert not folder.exists()


def test_where_the_disk_tells_them_apart_both_are_unpacked(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "Case").touch()
    if (tmp_path / "case").exists():
        pytest.skip("this disk does not tell them apart")

    archives.unpack(archive, tmp_path / "unpacked", 100)

    assert [(tmp_path / "unpacked" / name).read_text() for name in ("A/1.PNG", "a/1.PNG")] == ["upper", "lower"]
