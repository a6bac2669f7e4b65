"""Which versions are in memory: verified, shared, bounded, and never half."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from app.versions.manifest import write_manifest
from tests.factories.models import random_model
from tests.worker.engine.running import request_of, run
from worker.engine.errors import EngineError
from worker.engine.loading import Loaded, base_bytes, weight_bytes
from worker.engine.options import Options
from worker.engine.scheduler import Scheduler
from worker.engine.store import VersionStore
from worker.models import old_names_of_peft

GENEROUS = 2**30
PROMPT = [1, 4, 90, 91, 5]


def store_of(versions: Path, budget: int = GENEROUS) -> VersionStore:
    return VersionStore(
        Options(
            versions=versions, dtype=torch.float32, device=torch.device("cpu"), memory_budget_bytes=budget, max_batch=8
        )
    )


def use(store: VersionStore, name: str) -> Loaded:
    """Load and give back at once."""
    future = store.acquire(name)
    try:
        return future.result(60)
    finally:
        store.release(name, future)


def sampled(loaded: Loaded, **params: Any) -> list[list[int]]:
    return run(loaded.lane, request_of(PROMPT, n=2, seed=4, eos=loaded.eos, **params))[0]


def in_memory(store: VersionStore) -> set[str]:
    return {name for name, loaded in store.names().items() if loaded}


def test_versions_load_by_name_on_first_use(versions: Path) -> None:
    store = store_of(versions)
    assert in_memory(store) == set()
    loaded = use(store, "llama")
    assert in_memory(store) == {"llama"}
    assert loaded.context_length == 256
    assert loaded.eos == {2}
    assert use(store, "llama") is loaded


@pytest.mark.parametrize("name", ["nothing", "..", "../versions", "", ".hidden", "a/b", "llama\n"])
def test_other_names_are_not_found(versions: Path, name: str) -> None:
    with pytest.raises(EngineError) as caught:
        store_of(versions).acquire(name)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_version_is_refused_by_file(own_versions: Path, file: str, damage: str) -> None:
    place = own_versions / "llama" / file
    if damage == "missing":
        place.unlink()
    else:
        data = bytearray(place.read_bytes())
        data[-2] ^= 1
        place.write_bytes(bytes(data))
    store = store_of(own_versions)
    with pytest.raises(EngineError, match=file) as caught:
        use(store, "llama")
    assert caught.value.code == "version_damaged"
    assert in_memory(store) == set()
    assert store.memory_bytes == 0
    with pytest.raises(EngineError, match=file):
        use(store, "adapter-1")
    assert use(store, "gpt2").name == "gpt2", "others are not harmed"


def test_a_mended_version_loads_after_all(own_versions: Path) -> None:
    place = own_versions / "llama" / "config.json"
    whole = place.read_bytes()
    place.write_bytes(whole + b" ")
    store = store_of(own_versions)
    with pytest.raises(EngineError):
        use(store, "llama")
    place.write_bytes(whole)
    assert use(store, "llama").name == "llama"


def test_an_adapter_on_another_base_is_refused(own_versions: Path) -> None:
    (own_versions / "llama" / "NOTES").write_text("not the base it was trained on", encoding="utf-8")
    write_manifest(own_versions / "llama")
    for loaded_before in (False, True):
        store = store_of(own_versions)
        if loaded_before:
            use(store, "llama")
        with pytest.raises(EngineError, match="trained on") as caught:
            use(store, "adapter-1")
        assert caught.value.code == "version_damaged"


def test_adapters_share_their_base_and_sample_as_peft_does(versions: Path) -> None:
    """One copy of the base in memory; each version's greedy tokens are those of PEFT on a model of its own."""
    from peft import PeftModel

    store = store_of(versions)
    base_bytes = weight_bytes(versions / "llama", torch.float32)
    found = {name: sampled(use(store, name), temperature=0.0) for name in ("llama", "adapter-1", "adapter-2")}
    assert len({str(ids) for ids in found.values()}) == 3
    kv_bytes = sum(use(store, name).lane.memory_bytes for name in found)
    adapters = sum(weight_bytes(versions / name, torch.float32) for name in ("adapter-1", "adapter-2"))
    assert adapters < base_bytes / 10
    # One base, in transformers' layout and in the fused forward's, and buffers: not one for each adapter.
    assert base_bytes <= store.memory_bytes - kv_bytes - adapters < base_bytes * 4
    for name in ("adapter-1", "adapter-2"):
        with old_names_of_peft():
            model = PeftModel.from_pretrained(random_model("llama"), str(versions / name)).eval()
        with torch.inference_mode():
            plain = model.generate(
                input_ids=torch.tensor([PROMPT]), attention_mask=torch.ones(1, 5, dtype=torch.int64), do_sample=False,
                max_new_tokens=16, eos_token_id=2, pad_token_id=0,
            )  # fmt: skip
        assert found[name][0] == plain[0, len(PROMPT) :].tolist()
    assert sampled(use(store, "llama"), temperature=0.0) == found["llama"], "adapters leave their base as it was"


def size_of(directory: Path) -> int:
    """Bytes in memory; a Llama's weights are packed beside transformers' own."""
    return base_bytes(directory, torch.float32, torch.device("cpu"))


def test_least_recently_used_goes_first(versions: Path) -> None:
    """Room for two of three versions."""
    sizes = {name: size_of(versions / name) for name in ("llama", "gpt2", "gemma3_text")}
    store = store_of(versions, budget=int(sum(sizes.values()) - min(sizes.values()) / 2))
    use(store, "llama")
    use(store, "gpt2")
    use(store, "llama")
    use(store, "gemma3_text")
    assert in_memory(store) == {"llama", "gemma3_text"}
    assert store.memory_bytes <= sum(sizes.values())
    use(store, "gpt2")
    assert in_memory(store) == {"gpt2", "gemma3_text"}


def test_a_base_leaves_with_its_last_adapter(versions: Path) -> None:
    store = store_of(versions)
    use(store, "adapter-1")
    use(store, "adapter-2")
    assert store.unload("adapter-1")
    assert store.memory_bytes > weight_bytes(versions / "llama", torch.float32)
    assert store.unload("adapter-2")
    assert store.memory_bytes == 0
    assert not store.unload("adapter-2")


def test_a_version_in_use_is_never_put_out(versions: Path) -> None:
    """A second one that does not fit beside it waits until the first is given back."""
    sizes = {name: size_of(versions / name) for name in ("llama", "gpt2")}
    store = store_of(versions, budget=int(max(sizes.values()) * 1.2))
    first = store.acquire("llama")
    first.result(60)
    second = store.acquire("gpt2")
    with pytest.raises(TimeoutError):
        second.result(0.3)
    assert in_memory(store) == {"llama"}
    store.release("llama", first)
    assert second.result(60).name == "gpt2"
    assert in_memory(store) == {"gpt2"}
    store.release("gpt2", second)


def test_a_version_larger_than_the_budget_is_refused(versions: Path) -> None:
    with pytest.raises(EngineError, match="memory-budget-mb") as caught:
        use(store_of(versions, budget=1000), "llama")
    assert caught.value.code == "model_too_large"


def test_loading_another_version_stops_no_running_request(versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first version's samples take tokens while the second is being loaded."""
    store, scheduler = store_of(versions), Scheduler()
    scheduler.start()
    first = store.acquire("llama")
    loaded = first.result(60)
    done = threading.Event()
    request = request_of(PROMPT, n=4, seed=1, eos=frozenset(), max_tokens=240)
    request._deliver = lambda _result: done.set()
    went_on: list[bool] = []
    load = store._load

    def slowly(*arguments: Any) -> None:  # not done before the request has taken tokens meanwhile
        taken = request.samples[0].token_ids
        wanted, deadline = min(len(taken) + 20, 240), time.monotonic() + 60
        while len(request.samples[0].token_ids) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        went_on.append(len(request.samples[0].token_ids) >= wanted)
        load(*arguments)

    monkeypatch.setattr(store, "_load", slowly)
    try:
        scheduler.submit(loaded.lane, request)
        other = store.acquire("adapter-1")
        assert done.wait(60)
        other.result(60)
    finally:
        scheduler.stop()
    assert [len(sample.token_ids) for sample in request.samples] == [240] * 4
    (alone,) = run(
        use(store_of(versions), "llama").lane, request_of(PROMPT, n=4, seed=1, eos=frozenset(), max_tokens=240)
    )
    assert [sample.token_ids for sample in request.samples] == alone
    assert went_on == [True]


def test_sleep_waits_for_requests_then_frees_everything(versions: Path) -> None:
    store = store_of(versions)
    held = store.acquire("llama")
    held.result(60)
    asleep = threading.Thread(target=store.sleep)
    asleep.start()
    asleep.join(0.2)
    assert asleep.is_alive()
    with pytest.raises(EngineError) as caught:
        store.acquire("llama")
    assert (caught.value.status, caught.value.code, caught.value.retry_after_seconds) == (503, "asleep", 5)
    store.release("llama", held)
    asleep.join(10)
    assert not asleep.is_alive()
    assert store.is_asleep
    assert store.memory_bytes == 0
    store.wake()
    assert sampled(use(store, "llama"))


def test_a_name_keeps_its_directory(versions: Path, tmp_path: Path) -> None:
    store = store_of(versions)
    store.register("elsewhere", versions / "gpt2")
    store.register("elsewhere", versions / "gpt2")
    assert use(store, "elsewhere").info == use(store, "gpt2").info
    for name in ("elsewhere", "llama"):
        with pytest.raises(EngineError) as caught:
            store.register(name, versions / "gemma3_text")
        assert caught.value.code == "name_taken"
    with pytest.raises(EngineError, match="no version there"):
        store.register("new", tmp_path)
    assert store.unload("elsewhere")
    with pytest.raises(EngineError):
        store.acquire("elsewhere")
