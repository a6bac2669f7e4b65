"""Which versions are in memory: loaded on first use, several at once, the least recently used one out first."""

import gc
import logging
import re
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from app.versions.manifest import MANIFEST_FILE, ManifestError, VersionInfo
from worker.engine.errors import EngineError, asleep, model_not_found
from worker.engine.loading import Base, Loaded, base_bytes, base_of, load_base, load_version, weight_bytes
from worker.engine.options import Options
from worker.models import ModelError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
_MB = 2**20


@dataclass
class _Entry:
    """A version that is loaded or being loaded."""

    future: "Future[Loaded]"
    users: int = 0
    last_used: float = field(default_factory=time.monotonic)
    weight_bytes: int = 0
    kv_bytes: int = 0
    base: str | None = None


class VersionStore:
    """Thread-safe. Loading happens on a thread of its own, so that running requests never wait for it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lock = threading.RLock()
        self._released = threading.Condition(self._lock)
        self._entries: dict[str, _Entry] = {}
        self._bases: dict[str, Base] = {}
        self._paths: dict[str, Path] = {}
        self._asleep = False
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="engine-loader")

    def warm(self) -> None:
        """Import the model libraries in the background, so that the first version loads sooner."""
        self._loader.submit(_import_libraries)

    # Using versions

    def acquire(self, name: str) -> "Future[Loaded]":
        """The version ``name``, kept in memory until ``release(name)`` is called as often as this.

        The future may raise an ``EngineError``; the caller releases all the same.

        Raises:
            EngineError: asleep, or there is no such version.
        """
        with self._lock:
            if self._asleep:
                raise asleep()
            entry = self._entries.get(name)
            if entry is None:
                directory = self.path(name)
                entry = self._entries[name] = _Entry(Future())
                self._loader.submit(self._load, name, directory, entry)
            entry.users += 1
            entry.last_used = time.monotonic()
            return entry.future

    def release(self, name: str, future: "Future[Loaded]") -> None:
        """Give back what ``acquire`` gave."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and entry.future is future:
                entry.users -= 1
                entry.last_used = time.monotonic()
            self._released.notify_all()

    def path(self, name: str) -> Path:
        """Where the version ``name`` lies.

        Raises:
            EngineError: there is none.
        """
        with self._lock:
            if name in self._paths:
                return self._paths[name]
        directory = self._options.versions / name
        if not _NAME.fullmatch(name) or not (directory / MANIFEST_FILE).is_file():
            raise model_not_found(name)
        return directory

    def names(self) -> dict[str, bool]:
        """Every version there is, by name, and whether it is in memory."""
        with self._lock:
            loaded = {name for name, entry in self._entries.items() if _ready(entry)}
            found = set(self._paths)
        if self._options.versions.is_dir():
            found |= {
                place.name
                for place in self._options.versions.iterdir()
                if _NAME.fullmatch(place.name) and (place / MANIFEST_FILE).is_file()
            }
        return {name: name in loaded for name in sorted(found)}

    def info(self, name: str) -> VersionInfo:
        """version.json of ``name``, without loading it.

        Raises:
            EngineError: no such version.
            ManifestError: it cannot be read.
        """
        return VersionInfo.read(self.path(name))

    # Names that lie elsewhere

    def register(self, name: str, directory: Path) -> None:
        """Serve the version in ``directory`` as ``name``.

        Raises:
            EngineError: not a name, the name means another directory, or nothing is there.
        """
        if not _NAME.fullmatch(name):
            raise EngineError(f"{name!r} is not a version name", param="lora_name")
        if not (directory / MANIFEST_FILE).is_file():
            raise EngineError(
                f"{directory}: no version there (no {MANIFEST_FILE})",
                status=404,
                code="model_not_found",
                param="lora_path",
            )
        with self._lock:
            own = self._options.versions / name
            known = self._paths.get(name, own if (own / MANIFEST_FILE).is_file() else None)
            if known is not None and known.resolve() != directory.resolve():
                raise EngineError(
                    f"{name!r} is {known} already; every version has a name of its own", code="name_taken",
                    param="lora_name",
                )  # fmt: skip
            if known is None:
                self._paths[name] = directory.resolve()

    def unload(self, name: str) -> bool:
        """Forget a registered name and drop the version from memory once nobody uses it; False: it was not here."""
        with self._lock:
            known = self._paths.pop(name, None) is not None
            entry = self._entries.get(name)
            if entry is None:
                return known
            while self._entries.get(name) is entry and (entry.users > 0 or not entry.future.done()):
                self._released.wait()
            if self._entries.get(name) is entry:
                self._drop(name)
        return True

    # Memory

    @property
    def memory_bytes(self) -> int:
        """Weights and KV memory of everything loaded."""
        with self._lock:
            return self._used()

    def reserve(self, name: str, kv_bytes: int) -> bool:
        """Have ``kv_bytes`` of KV memory in all for ``name``, putting idle versions out for it; False: not now."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return False
            if not self._make_room(kv_bytes - entry.kv_bytes):
                return False
            entry.kv_bytes = kv_bytes
            return True

    # Sleep

    @property
    def is_asleep(self) -> bool:
        """Whether everything was put away."""
        return self._asleep

    def sleep(self) -> None:
        """Refuse new requests, wait for those that run, then free all weights and KV memory."""
        with self._lock:
            self._asleep = True
            while self._asleep and any(e.users > 0 or not e.future.done() for e in self._entries.values()):
                self._released.wait()
            if not self._asleep:
                return
            freed = self._used()
            for name in list(self._entries):
                self._drop(name)
            self._bases.clear()
        _give_back(self._options)
        log.info("engine.sleep freed_mb=%d", freed // _MB)

    def wake(self) -> None:
        """Take requests again; versions load on first use."""
        with self._lock:
            self._asleep = False
            self._released.notify_all()
        log.info("engine.wake")

    def close(self) -> None:
        """Stop loading."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    # Loading, on the loader's thread

    def _load(self, name: str, directory: Path, entry: _Entry) -> None:
        try:
            loaded = self._bring_in(name, directory, entry)
        except Exception as error:  # noqa: BLE001 - whatever went wrong belongs to the requests that wait for it
            with self._lock:
                if self._entries.get(name) is entry:
                    del self._entries[name]
                self._drop_unused_bases()
                self._released.notify_all()
            log.error("engine.load_failed model=%s path=%s error=%r", name, directory, str(error))  # noqa: TRY400
            entry.future.set_exception(_as_engine_error(name, error))
            return
        entry.future.set_result(loaded)
        with self._lock:
            self._released.notify_all()

    def _bring_in(self, name: str, directory: Path, entry: _Entry) -> Loaded:
        started = time.monotonic()
        options = self._options
        info, base_directory = base_of(directory)
        key = str(base_directory)
        with self._lock:
            base = self._bases.get(key)
            entry.base = key
        needed = 0 if base is not None else base_bytes(base_directory, options.dtype, options.device)
        needed += weight_bytes(directory, options.dtype) if info.kind == "adapter" else 0
        self._wait_for_room(name, entry, needed)
        if base is None:
            base = load_base(base_directory, directory, info, options.dtype, options.device)
            with self._lock:
                self._bases[key] = base
        loaded = load_version(
            name,
            directory,
            info,
            base,
            base_key=key,
            max_rows=options.max_batch,
            reserve=lambda kv_bytes: self.reserve(name, kv_bytes),
        )
        with self._lock:
            entry.weight_bytes = loaded.own_bytes
            used = self._used()
        log.info(
            "engine.load model=%s kind=%s context=%d lane=%s own_mb=%d base_mb=%d used_mb=%d budget_mb=%d seconds=%.2f",
            name, info.kind, loaded.context_length, type(loaded.lane).__name__, loaded.own_bytes // _MB,
            base.held_bytes // _MB, used // _MB, options.memory_budget_bytes // _MB, time.monotonic() - started,
        )  # fmt: skip
        return loaded

    def _wait_for_room(self, name: str, entry: _Entry, needed: int) -> None:
        """Put idle versions out until ``needed`` bytes fit; waits while the others are all in use."""
        with self._lock:
            while not self._make_room(needed, keep=entry):
                others = [other for key, other in self._entries.items() if key != name]
                if not any(other.users > 0 for other in others):
                    raise EngineError(
                        f"version {name!r} needs {needed // _MB} MB for its weights and the budget is "
                        f"{self._options.memory_budget_bytes // _MB} MB; raise --memory-budget-mb",
                        code="model_too_large",
                        param="model",
                    )
                self._released.wait()
            entry.weight_bytes = needed

    # All below with the lock held

    def _used(self) -> int:
        held = sum(entry.weight_bytes + entry.kv_bytes for entry in self._entries.values())
        return held + sum(base.held_bytes for base in self._bases.values())

    def _make_room(self, needed: int, keep: _Entry | None = None) -> bool:
        """Drop idle versions, least recently used first, until ``needed`` more bytes fit the budget."""
        while self._used() + needed > self._options.memory_budget_bytes:
            idle = [
                (entry.last_used, name)
                for name, entry in self._entries.items()
                if entry is not keep and entry.users == 0 and entry.future.done()
            ]
            if not idle:
                return False
            self._drop(min(idle)[1])
        return True

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name)
        self._drop_unused_bases()
        log.info("engine.unload model=%s kv_mb=%d used_mb=%d", name, entry.kv_bytes // _MB, self._used() // _MB)

    def _drop_unused_bases(self) -> None:
        used = {entry.base for entry in self._entries.values()}
        for key in [key for key in self._bases if key not in used]:
            del self._bases[key]


def _ready(entry: _Entry) -> bool:
    return entry.future.done() and entry.future.exception() is None


def _as_engine_error(name: str, error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, ManifestError | ModelError):
        return EngineError(
            f"Version {name!r} cannot be loaded: {error}",
            status=500,
            code="version_damaged" if isinstance(error, ManifestError) else "version_unusable",
            kind="server_error",
            param="model",
        )
    return EngineError(
        f"Version {name!r} cannot be loaded: {type(error).__name__}: {error}",
        status=500,
        code="load_failed",
        kind="server_error",
        param="model",
    )


def _import_libraries() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    from worker.engine.compiled.warm import warm

    warm()
    log.debug("engine.warm imported=%s", [AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM])


def _give_back(options: Options) -> None:
    """Return freed memory to the device or the operating system."""
    import ctypes
    import sys

    import torch

    gc.collect()
    if options.device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:
            log.debug("engine.trim unavailable: this libc has no malloc_trim")
