"""Train the demo model from nothing: ``python -m worker.demo.train [--output DIR] [--seed N]``.

Corpus → tokenizer → Llama of about 3.8 million parameters → a verified version directory. Muon moves the matrices and
AdamW the rest, the learning rate falls to zero, and only what the assistant says counts in the loss. The corpus never
repeats, so a step is always on text the model has not seen.

Two processes of one thread each share every step: on matrices this small, a second thread in one process adds a fifth,
a second process doubles. How the work is shared decides the last bits, so it is part of the recipe.
"""

import argparse
import itertools
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn.functional import cross_entropy

from app.versions.manifest import VersionInfo, write_manifest
from worker.demo import tokenizer as demo_tokenizer
from worker.demo.corpus import Message, conversations
from worker.models import libraries

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

MODEL = Path(__file__).parent / "model"
EVALUATION_SEED = 10_007
"""Added to the seed for the conversations that measure the loss and are never trained on."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, beside the corpus."""

    seed: int = 0
    steps: int = 2600
    processes: int = 2
    tokens_per_process: int = 1024
    """Of one step, padding included."""
    dtype: str = "bfloat16"
    """Of the matrix products; weights, sums and optimisers are fp32. Slow on a CPU without bf16 instructions."""
    learning_rate: float = 3e-3
    warmup_steps: int = 80
    sharpness: float = 1.33
    """What the logits are multiplied with in the end: above 1, sampling at temperature 1 keeps off unlikely tokens."""
    weight_decay: float = 0.05
    context_length: int = 512
    hidden: int = 256
    feed_forward: int = 640
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    tokenizer_conversations: int = 20_000
    pool_conversations: int = 512
    """Sorted by length and cut into batches, so that little is padding."""


@dataclass(frozen=True)
class Batch:
    """Right-padded rows: ``ids`` (batch, length), and ``said`` of the same shape, true where the loss counts."""

    ids: torch.Tensor
    said: torch.Tensor


def build_model(recipe: Recipe, tokenizer: "PreTrainedTokenizerFast") -> "LlamaForCausalLM":
    """A fresh Llama in fp32 with tied embeddings; draws from torch's global generator."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.feed_forward,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.key_value_heads,
            max_position_embeddings=recipe.context_length,
            tie_word_embeddings=True,
            **special,
        )
    )
    model.generation_config = GenerationConfig(**special, do_sample=True, temperature=1.0, top_p=1.0, top_k=0)
    return model


def batches(
    source: Iterator[list[Message]], tokenizer: "PreTrainedTokenizerFast", recipe: Recipe, rng: random.Random
) -> Iterator[Batch]:
    """Batches of at most ``tokens_per_process`` tokens, padding included; too long conversations are left out."""
    while True:
        pool = [demo_tokenizer.encode(tokenizer, next(source)) for _ in range(recipe.pool_conversations)]
        pool = sorted((row for row in pool if len(row[0]) <= recipe.context_length), key=lambda row: len(row[0]))
        ready, rows = [], pool[:0]
        for row in pool:
            if rows and len(row[0]) * (len(rows) + 1) > recipe.tokens_per_process:
                ready.append(_pad(rows, tokenizer))
                rows = []
            rows.append(row)
        rng.shuffle(ready)  # what is left over in ``rows`` is dropped: a short batch would weigh its rows more
        yield from ready


def _pad(rows: list[tuple[list[int], list[bool]]], tokenizer: "PreTrainedTokenizerFast") -> Batch:
    length = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([row + [pad] * (length - len(row)) for row, _ in rows])
    said = torch.tensor([flags + [False] * (length - len(flags)) for _, flags in rows])
    return Batch(ids, said)


def loss_sum(model: "LlamaForCausalLM", batch: Batch) -> tuple[torch.Tensor, int]:
    """Cross-entropy in nats, summed over what the assistant says, and the number of those tokens.

    Right padding needs no mask under causal attention: nothing that counts can look at it.
    """
    hidden = model.model(input_ids=batch.ids[:, :-1], use_cache=False).last_hidden_state
    counts = batch.said[:, 1:]
    logits = model.lm_head(hidden[counts])
    return cross_entropy(logits, batch.ids[:, 1:][counts], reduction="sum"), int(counts.sum())


def optimizers(model: "LlamaForCausalLM", recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(rest, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(recipe: Recipe) -> "tuple[LlamaForCausalLM, PreTrainedTokenizerFast, float]":
    """Model, tokenizer and the last evaluation loss in nats per token; prints the losses on its way."""
    texts = itertools.islice(conversations(random.Random(recipe.seed)), recipe.tokenizer_conversations)
    tokenizer = demo_tokenizer.learn((m["content"] for messages in texts for m in messages), recipe.context_length)
    with tempfile.TemporaryDirectory() as meeting:
        context = torch.multiprocessing.get_context("spawn")
        helpers = [
            context.Process(target=_work, args=(recipe, tokenizer, rank, meeting), daemon=True)
            for rank in range(1, recipe.processes)
        ]
        for helper in helpers:
            helper.start()
        model, loss = _work(recipe, tokenizer, 0, meeting)
        for helper in helpers:
            helper.join()
    with torch.no_grad():
        model.model.norm.weight *= recipe.sharpness
    return model.eval(), tokenizer, loss


def _work(
    recipe: Recipe, tokenizer: "PreTrainedTokenizerFast", rank: int, meeting: str
) -> "tuple[LlamaForCausalLM, float]":
    """What each process does: the same model, its own share of the batches, the same steps."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=recipe.processes
    )
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, tokenizer)
    stream = batches(conversations(random.Random(recipe.seed + 1)), tokenizer, recipe, random.Random(recipe.seed + 2))
    mine = itertools.islice(stream, rank, None, recipe.processes)
    held_out = conversations(random.Random(recipe.seed + EVALUATION_SEED))
    evaluation = list(itertools.islice(batches(held_out, tokenizer, recipe, random.Random(0)), 24))
    steppers = optimizers(model, recipe)
    began, tokens, loss = time.monotonic(), 0, float("nan")
    for step in range(1, recipe.steps + 1):
        rate = recipe.learning_rate * min(step / recipe.warmup_steps, (recipe.steps - step + 1) / recipe.steps)
        model.train()
        batch = next(mine)
        train_loss = _gradients(model, batch, recipe)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = rate
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        tokens += batch.ids.numel() * recipe.processes
        if rank == 0 and (step % 100 == 0 or step == recipe.steps):
            loss = evaluate(model, evaluation)
            seconds = time.monotonic() - began
            print(
                f"step {step:5d}  train {train_loss:.4f}  held out {loss:.4f} nats/token  {seconds:,.0f} s"
                f"  {tokens / seconds:,.0f} tokens/s, this process {time.process_time():,.0f} s CPU",
                flush=True,
            )
    distributed.destroy_process_group()
    return model, loss


def _gradients(model: "LlamaForCausalLM", batch: Batch, recipe: Recipe) -> float:
    """Put the gradient of the mean loss over all processes' tokens in place; returns that loss, nats per token."""
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.dtype == "bfloat16"):
        total, count = loss_sum(model, batch)
    total.backward()  # type: ignore[no-untyped-call]
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    gradients = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
    sums = torch.cat([*gradients, torch.tensor([total.item(), float(count)])])
    distributed.all_reduce(sums)
    overall, tokens = sums[-2:].tolist()
    start = 0
    for parameter in parameters:
        parameter.grad = sums[start : start + parameter.numel()].view_as(parameter) / tokens
        start += parameter.numel()
    return float(overall / tokens)


@torch.no_grad()
def evaluate(model: "LlamaForCausalLM", evaluation: list[Batch]) -> float:
    """Mean cross-entropy, nats per token the assistant says."""
    model.eval()
    sums = [loss_sum(model, batch) for batch in evaluation]
    return sum(float(total) for total, _ in sums) / sum(count for _, count in sums)


def save(
    model: "LlamaForCausalLM", tokenizer: "PreTrainedTokenizerFast", recipe: Recipe, loss: float, output: Path
) -> str:
    """Write a full version directory, replacing what is there; returns its digest."""
    staged = output.with_name(output.name + ".new")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    VersionInfo(
        kind="full",
        context_length=recipe.context_length,
        spec={"recipe": asdict(recipe)},
        metrics={
            "parameters": model.num_parameters(),
            "held_out_loss_nats_per_token": round(loss, 4),
        },
        libraries=libraries(),
    ).write(staged)
    for file in staged.iterdir():
        file.chmod(0o644)
    digest = write_manifest(staged)
    shutil.rmtree(output, ignore_errors=True)
    staged.rename(output)
    return digest


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.train", description="Train the demo model.")
    parser.add_argument("--output", type=Path, default=MODEL, help="version directory to write (replaced)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="fewer for a quick look")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default=Recipe.dtype, help="of matrix products")
    arguments = parser.parse_args()
    recipe = Recipe(seed=arguments.seed, steps=arguments.steps, dtype=arguments.dtype)
    print(json.dumps(asdict(recipe)))
    began = time.monotonic()
    model, tokenizer, loss = train(recipe)
    digest = save(model, tokenizer, recipe, loss, arguments.output)
    size = sum(file.stat().st_size for file in arguments.output.iterdir())
    print(
        f"{model.num_parameters():,} parameters, {size / 1e6:.2f} MB in {arguments.output}, digest {digest[:12]},"
        f" {time.monotonic() - began:,.0f} s wall, {_cpu_seconds():,.0f} s CPU"
    )


def _cpu_seconds() -> float:
    """User and system time of this process and of those it waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main()
