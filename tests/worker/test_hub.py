"""Hub ids where the hub is out of reach: the local cache as huggingface_hub lays it out, and what is said without."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.versions.manifest import VersionInfo, verify
from tests.factories.models import version_directory
from tests.worker.trainer.running import ROOT
from worker.hub import commit_of
from worker.imports import import_base
from worker.models import ModelError

COMMIT = "5ca1ab1e" * 5


def cached_model(cache: Path, name: str = "owner/name", commit: str = COMMIT) -> Path:
    """A model as huggingface_hub keeps it: blobs, links to them in a folder by commit, and what 'main' means."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(version_directory("llama").iterdir())):
        if file.name not in ("manifest.json", "version.json"):
            shutil.copyfile(file, folder / "blobs" / str(number))
            (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    (folder / "refs" / "main").write_text(commit)
    return snapshot


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub: nothing listens at its address."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    return folder


def test_offline_a_model_is_taken_from_the_cache(tmp_path: Path) -> None:
    """As one runs it on a machine without network: another process, told by its environment."""
    cached_model(tmp_path / "home" / "hub")
    run = [sys.executable, "-m", "worker.importing", "owner/name", str(tmp_path / "staged")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    ended = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    verify(tmp_path / "staged")
    assert VersionInfo.read(tmp_path / "staged").source == {"hub": "owner/name", "revision": COMMIT}
    assert not any(file.is_symlink() for file in (tmp_path / "staged").iterdir())
    run[-2] = "owner/other"
    ended = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    said = ended.stderr.splitlines()[-1]
    assert said.startswith("owner/other: HF_HUB_OFFLINE keeps it from being fetched; unset that, or name a directory")
    assert said.endswith(f"and the cache {tmp_path / 'home' / 'hub'} has no copy of owner/other")


def test_without_network_a_model_is_taken_from_the_cache_and_that_is_said(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached_model(cache)
    import_base("owner/name", tmp_path / "staged")
    assert VersionInfo.read(tmp_path / "staged").source["revision"] == COMMIT
    assert f"owner/name: the hub is out of reach, and commit {COMMIT} is taken from the cache" in caplog.text
    assert commit_of("owner/name", COMMIT) == COMMIT
    with pytest.raises(ModelError, match=f"has no copy of owner/name at {'0' * 40}"):
        commit_of("owner/name", "0" * 40)


def test_a_copy_that_is_not_whole_is_named(cache: Path, tmp_path: Path) -> None:
    (cached_model(cache) / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=rf"snapshots/{COMMIT}: no safetensors"):
        import_base("owner/name", tmp_path / "staged")


def test_a_hub_that_answers_is_believed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not have, or does not give us, is not taken from an old copy."""
    import httpx2
    from huggingface_hub.errors import RepositoryNotFoundError

    cached_model(cache)

    def answer(_name: str, **_options: object) -> None:
        response = httpx2.Response(404, request=httpx2.Request("GET", "http://hub"))
        raise RepositoryNotFoundError("there is none", response=response)

    monkeypatch.setattr("huggingface_hub.model_info", answer)
    with pytest.raises(ModelError, match="could not be fetched from the hub: there is none; see to the network"):
        import_base("owner/name", tmp_path / "staged")
