"""Sampling speed: Hone's engine, transformers' ``generate(num_return_sequences=K)`` and ``generate_batch``.

One run, same model, dtype, prompts and sampling settings for all three; tokens per second count sampled tokens only
(end token included, padding not). Run ``python bench/sampling.py``; ``--json`` prints one machine-readable last line.
"""

import argparse
import gc
import json
import logging
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the engine sets it; read when torch is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from tests.factories.models import tokenizer as tiny_tokenizer
from worker.engine.errors import EngineError
from worker.engine.fit import make_lane
from worker.engine.params import SamplingParams
from worker.engine.scheduler import Scheduler
from worker.engine.work import Delta, Request
from worker.models import load_model

DEMO = Path(__file__).resolve().parents[1] / "worker" / "demo" / "model"
DEMO_PROMPTS = DEMO.parent / "prompts.jsonl"

# hidden, layers, heads, KV heads, MLP, vocabulary
SHAPES = {"4M": (256, 5, 4, 2, 704, 2048), "100M": (768, 11, 12, 4, 2304, 32000)}


@dataclass(frozen=True)
class Workload:
    """Prompts × samples of one model."""

    name: str
    model: str
    prompts: int
    samples: int
    max_tokens: int


WORKLOADS = (
    Workload("32 prompts x 2", "demo", 32, 2, 96),
    Workload("32 prompts x 2", "100M", 32, 2, 48),
    Workload("one pair", "demo", 1, 2, 96),
)


def random_model(name: str) -> Any:
    """A random Llama of about ``name`` parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, heads, kv_heads, mlp, vocabulary = SHAPES[name]
    config = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=mlp, vocab_size=vocabulary, max_position_embeddings=512, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def prompts_of(model: str, count: int, tokenizer: Any) -> list[list[int]]:
    """Token ids of ``count`` everyday prompts of differing lengths."""
    if model == "demo" and DEMO_PROMPTS.is_file():
        rows = [json.loads(line) for line in DEMO_PROMPTS.read_text(encoding="utf-8").splitlines()[:count]]
        return [
            list(tokenizer.apply_chat_template(r["messages"], add_generation_prompt=True, return_dict=False))
            for r in rows
        ]
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(12, 60, (count,), generator=generator).tolist()
    return [torch.randint(3, 300, (length,), generator=generator).tolist() for length in lengths]


class Ours:
    """The engine's scheduler and lane, without HTTP."""

    def __init__(self, model: Any, tokenizer: Any, eos: frozenset[int], context: int) -> None:
        self._lane = make_lane(model, context_length=context, max_rows=64, reserve=lambda _bytes: True)
        self._tokenizer = tokenizer
        self._eos = eos
        self._scheduler = Scheduler()
        self._scheduler.start()

    def __call__(self, prompts: list[list[int]], load: Workload, settings: dict[str, Any], seed: int) -> int:
        requests, done = [], threading.Semaphore(0)
        errors: list[EngineError] = []

        def deliver(result: list[Delta] | EngineError | None) -> None:
            if isinstance(result, EngineError):
                errors.append(result)
            done.release()

        for index, prompt in enumerate(prompts):
            params = SamplingParams(seed=seed + index, n=load.samples, max_tokens=load.max_tokens, **settings)
            requests.append(Request(params, [prompt], self._eos, self._tokenizer.decode, deliver, stream=False))
        for request in requests:
            self._scheduler.submit(self._lane, request)
        for _ in requests:
            done.acquire()
        if errors:
            raise errors[0]
        return sum(len(sample.token_ids) for request in requests for sample in request.samples)

    def close(self) -> None:
        self._scheduler.stop()


def generate(model: Any, eos: frozenset[int]) -> Callable[..., int]:
    """``model.generate`` on a left-padded batch."""

    def run(prompts: list[list[int]], load: Workload, settings: dict[str, Any], seed: int) -> int:
        torch.manual_seed(seed)
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, num_return_sequences=load.samples, top_k=0,
                max_new_tokens=load.max_tokens, eos_token_id=list(eos), pad_token_id=0, **settings,
            )  # fmt: skip
        return sum(sampled_length(row, eos) for row in out[:, width:].tolist())

    return run


def generate_batch(model: Any, eos: frozenset[int]) -> Callable[..., int]:
    """``model.generate_batch``: transformers' own continuous batching."""
    from transformers import GenerationConfig

    def run(prompts: list[list[int]], load: Workload, settings: dict[str, Any], seed: int) -> int:
        torch.manual_seed(seed)
        config = GenerationConfig(
            do_sample=True, max_new_tokens=load.max_tokens, eos_token_id=list(eos), pad_token_id=0, top_k=0,
            num_return_sequences=load.samples, **settings,
        )  # fmt: skip
        out = model.generate_batch(inputs=prompts, generation_config=config, progress_bar=False)
        return sum(sampled_length(list(result.generated_tokens), eos) for result in out.values())

    return run


def sampled_length(ids: list[int], eos: frozenset[int]) -> int:
    """Tokens up to and including the first end token."""
    return next((place + 1 for place, token in enumerate(ids) if token in eos), len(ids))


def speeds(runs: dict[str, Callable[..., int]], *arguments: Any, repeats: int) -> tuple[dict[str, float], int]:
    """Median tokens per second of each, after a warm-up, taking turns so that a busy machine is busy for all."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    tokens, threads = 0, torch.get_num_threads()
    for seed in range(-1, repeats):
        for name, run in runs.items():
            if name == "generate_batch" and seed > 0:
                continue  # an order of magnitude slower: one measurement is enough
            gc.collect()
            torch.set_num_threads(threads)  # the engine takes one for small products; the others always have all
            started = time.perf_counter()
            sampled = run(*arguments, seed=1000 + 100 * seed)
            if seed >= 0:
                found[name].append(sampled / (time.perf_counter() - started))
            if name == "ours":
                tokens = sampled
    return {name: statistics.median(values) for name, values in found.items()}, tokens


def load(name: str) -> tuple[Any, Any, frozenset[int], int, str]:
    """Model, tokenizer, end tokens, context, label. Without a demo model, a random one of its size."""
    if name == "demo" and DEMO.is_dir():
        model, tokenizer, info = load_model(DEMO, torch.float32, "cpu")
        eos = model.generation_config.eos_token_id
        ends = frozenset(eos if isinstance(eos, list) else [eos])
        return model, tokenizer, ends, info.context_length, "demo"
    size = "4M" if name == "demo" else name
    return random_model(size), tiny_tokenizer(), frozenset({2}), 512, f"random {size}"


def measure(only: str | None, repeats: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per workload."""
    rows = []
    for name in dict.fromkeys(w.model for w in WORKLOADS):
        workloads = [w for w in WORKLOADS if w.model == name and (only is None or only in f"{w.name} {w.model}")]
        if not workloads:
            continue
        model, tokenizer, eos, context, label = load(name)
        ours = Ours(model, tokenizer, eos, context)
        for work in workloads:
            prompts = prompts_of(name, work.prompts, tokenizer)
            runs = {"ours": ours, "generate": generate(model, eos), "generate_batch": generate_batch(model, eos)}
            figures, tokens = speeds(runs, prompts, work, settings, repeats=repeats)
            rows.append({
                "workload": work.name,
                "model": label,
                "parameters": sum(p.numel() for p in model.parameters()),
                "tokens": tokens,
                **{f"{key}_tokens_per_second": round(value, 1) for key, value in figures.items()},
                "ratio_generate": round(figures["ours"] / figures["generate"], 2),
                "ratio_generate_batch": round(figures["ours"] / figures["generate_batch"], 2),
            })  # fmt: skip
            show(rows[-1])
        ours.close()
    return rows


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    print(
        f"{row['workload']:<16} {row['model']:<12} {row['ours_tokens_per_second']:>9.0f} "
        f"{row['generate_tokens_per_second']:>9.0f} {row['generate_batch_tokens_per_second']:>15.0f} "
        f"{row['ratio_generate']:>9.2f}x {row['ratio_generate_batch']:>9.2f}x",
        flush=True,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the rows as one last line of JSON")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", help="part of a workload's name")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"fp32, {torch.get_num_threads()} threads; tokens per second, and ours over theirs")
    print(
        f"{'workload':<16} {'model':<12} {'ours':>9} {'generate':>9} {'generate_batch':>15} {'':>4}ratio {'':>5}ratio"
    )
    rows = measure(options.only, options.repeats, {"temperature": options.temperature, "top_p": options.top_p})
    if options.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
