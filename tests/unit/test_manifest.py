"""A version directory verifies or names what is wrong with it, and is published whole."""

import json
from pathlib import Path

import pytest

from app.versions.manifest import Base, ManifestError, Parent, VersionInfo, publish, read_digest, verify, write_manifest


@pytest.fixture
def version(tmp_path: Path) -> Path:
    directory = tmp_path / "staged"
    (directory / "deep").mkdir(parents=True)
    (directory / "weights").write_bytes(b"0123456789")
    (directory / "deep" / "more").write_text("text")
    VersionInfo(kind="full", context_length=512).write(directory)
    write_manifest(directory)
    return directory


def test_digest_is_of_the_content(version: Path) -> None:
    digest = verify(version)
    assert digest == read_digest(version) == write_manifest(version)
    assert len(digest) == 64
    (version / "weights").write_bytes(b"0123456780")
    assert write_manifest(version) != digest


def test_digest_is_the_same_however_files_were_written(version: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "deep").mkdir(parents=True)
    for name in ("version.json", "deep/more", "weights"):
        (other / name).write_bytes((version / name).read_bytes())
    assert write_manifest(other) == verify(version)


def test_manifest_lists_every_file_with_hash_and_size(version: Path) -> None:
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["files"].keys() == {"weights", "deep/more", "version.json"}
    assert manifest["files"]["weights"] == {
        "bytes": 10,
        "sha256": "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882",
    }


@pytest.mark.parametrize(
    ("name", "spoil", "says"),
    [
        ("weights", lambda file: file.write_bytes(b"012345678x"), "sha256"),
        ("weights", lambda file: file.write_bytes(b"0"), "1 bytes, the manifest says 10"),
        ("weights", lambda file: file.unlink(), "missing"),
        ("deep/extra", lambda file: file.write_text("x"), "not in the manifest"),
        ("link", lambda file: file.symlink_to("weights"), "not a plain file"),
        ("manifest.json", lambda file: file.unlink(), "missing"),
        ("manifest.json", lambda file: file.write_text("{"), "unreadable"),
        ("manifest.json", lambda file: file.write_text('{"schema": 9, "files": {}}'), "schema"),
    ],
)
def test_what_differs_is_named(version: Path, name: str, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    spoil(version / name)
    with pytest.raises(ManifestError, match=says) as caught:
        verify(version)
    assert name in str(caught.value)


def test_manifest_cannot_point_outside(version: Path) -> None:
    manifest = json.loads((version / "manifest.json").read_text())
    manifest["files"]["../outside"] = {"sha256": "0", "bytes": 0}
    (version / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="points outside"):
        verify(version)


def test_publish_moves_all_of_it_once(version: Path, tmp_path: Path) -> None:
    digest = verify(version)
    final = tmp_path / "versions" / "one"
    publish(version, final)
    assert not version.exists()
    assert verify(final) == digest
    again = tmp_path / "again"
    again.mkdir()
    with pytest.raises(FileExistsError, match="never overwritten"):
        publish(again, final)


def test_version_info_comes_back_as_it_was(tmp_path: Path) -> None:
    info = VersionInfo(
        kind="adapter",
        context_length=512,
        base=Base("one", "/somewhere", "d1"),
        parent=Parent("one", "d1"),
        spec={"settings": {"loss": "dpop"}},
        snapshot_hash="abc",
        metrics={"eval": {"loss": 0.5}},
        libraries={"torch": "2"},
    )
    info.write(tmp_path)
    assert VersionInfo.read(tmp_path) == info


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "unreadable"),
        ("[]", "holds list"),
        ('{"schema": 2}', "schema 2, this program reads 1"),
        ('{"schema": 1, "kind": "half"}', "'half' is neither"),
        ('{"schema": 1, "kind": "full", "context_length": 1, "colour": "red"}', "colour"),
    ],
)
def test_version_info_that_cannot_be_read(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "version.json").write_text(text)
    with pytest.raises(ManifestError, match=says):
        VersionInfo.read(tmp_path)


def test_base_is_the_sibling_first_then_the_path(tmp_path: Path) -> None:
    adapter, sibling, elsewhere = (tmp_path / name for name in ("v/adapter", "v/one", "elsewhere"))
    info = VersionInfo(kind="adapter", context_length=1, base=Base("one", str(elsewhere)))
    for directory in (adapter, sibling, elsewhere):
        directory.mkdir(parents=True)
    (elsewhere / "manifest.json").touch()
    assert info.base_directory(adapter) == elsewhere
    (sibling / "manifest.json").touch()
    assert info.base_directory(adapter) == sibling
    with pytest.raises(ManifestError, match="names no base"):
        VersionInfo(kind="full", context_length=1).base_directory(adapter)
    with pytest.raises(ManifestError, match="not found"):
        VersionInfo(kind="adapter", context_length=1, base=Base("two")).base_directory(adapter)
