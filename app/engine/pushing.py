"""Having a server load a version that it does not find by its name, and saying clearly when it cannot."""

from pathlib import Path
from uuid import UUID

from app.engine.client import EngineClient
from app.engine.errors import EngineRefused, EngineUnavailable
from app.versions.files import directory
from app.versions.manifest import ManifestError, VersionInfo

NOT_SERVED = "version_not_served"
"""Code of the refusal: no engine has the version, and none can be given it."""


def base_of(folder: Path) -> str | None:
    """The name of the version under an adapter; None for a full model.

    Raises:
        ManifestError: the directory holds no version, or an adapter that does not say.
    """
    info = VersionInfo.read(folder)
    return info.base_directory(folder).name if info.kind == "adapter" else None


def push(engine: EngineClient, versions_dir: Path, version_id: UUID) -> None:
    """Make sure that ``version_id`` can be asked for: an adapter is loaded under that name.

    Raises:
        EngineUnavailable, EngineNonsense: try again later, or not.
        EngineRefused: nobody serves it, or its directory is damaged; where it is a full model, the message says how to
            start a server for it.
    """
    folder = directory(versions_dir, version_id).absolute()
    try:
        base = base_of(folder)
    except ManifestError as error:
        raise EngineRefused("version_damaged", str(error)) from error
    try:
        engine.load(str(version_id), folder, base=base)
    except (EngineRefused, EngineUnavailable) as error:
        if base is None and _is_about_adapters(error):
            raise _full_model_missing(version_id, folder, error) from error
        if isinstance(error, EngineRefused) and error.code == "model_not_found" and base is not None:
            raise EngineRefused(
                NOT_SERVED,
                f"{error.message}, the full model under version {version_id}. Start a server with "
                f"{directory(versions_dir, UUID(base)).absolute()}, named {base}.",
            ) from error
        raise


def _full_model_missing(version_id: UUID, folder: Path, error: Exception) -> EngineRefused:
    return EngineRefused(
        NOT_SERVED,
        f"No engine serves version {version_id} ({error}). It is a full model, which vLLM and SGLang take only at "
        f"their start: start a second server with {folder}, named {version_id}, and add its address to "
        "HONE_ENGINE_URL. Until then promote another version, or wait: nothing is sampled twice or lost.",
    )


def _is_about_adapters(error: EngineRefused | EngineUnavailable) -> bool:
    """vLLM says so in different words, with status 400, 404 or 500."""
    if isinstance(error, EngineRefused) and error.code in ("not_an_adapter", "not_found"):
        return True
    said = error.message.lower()
    return "adapter_config" in said or "lora adapter" in said or "no adapter found" in said
