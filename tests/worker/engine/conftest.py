"""One versions directory and one engine process for the whole session."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from app.versions.manifest import Base, VersionInfo, read_digest, write_manifest
from tests.factories.models import CONTEXT_LENGTH, copy_version, random_model, tokenizer, version_directory
from tests.worker.engine.running import EngineProcess
from worker.models import old_names_of_peft


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def write_adapter(directory: Path, base: Path, seed: int) -> None:
    """A LoRA adapter version with random weights on the version in ``base``."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"])
    with old_names_of_peft():
        model = get_peft_model(random_model("llama"), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    model.save_pretrained(str(directory))
    (directory / "README.md").unlink(missing_ok=True)
    tokenizer().save_pretrained(directory)
    on = Base(version=base.name, digest=read_digest(base))
    VersionInfo(kind="adapter", context_length=CONTEXT_LENGTH, base=on).write(directory)
    write_manifest(directory)


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llama, gpt2, gemma3_text, and two adapters on llama. Read-only."""
    directory = tmp_path_factory.mktemp("versions")
    for architecture in ("llama", "gpt2", "gemma3_text"):
        copy_version(version_directory(architecture), directory / architecture)
    for seed in (1, 2):
        write_adapter(directory / f"adapter-{seed}", directory / "llama", seed)
    return directory


@pytest.fixture
def own_versions(versions: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(versions, tmp_path / "versions")
    return tmp_path / "versions"


@pytest.fixture(scope="session")
def engine(versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """A running engine without a secret."""
    process = EngineProcess(
        versions, "--max-batch", "8", "--max-queue", "16", log=tmp_path_factory.mktemp("log") / "engine.log"
    )
    yield process
    assert process.stop() == 0, process.log.read_text()
