"""Tiny random models of real architectures, with a real tokenizer and chat template, as version directories.

Made in about a second each and cached for the session: ``version_directory("llama")``. Treat them as read-only;
``copy_version`` gives a copy to change.
"""

import atexit
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from app.versions.manifest import VersionInfo, write_manifest

ARCHITECTURES = ("llama", "qwen3", "gemma3_text", "mistral", "phi3", "gpt2", "gpt_neox", "olmo", "olmo2")
CONTEXT_LENGTH = 256
VOCABULARY = 384

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>")
WORDS = ["tea", "boat", "rain", "walk", "bread", "letter", "garden", "lamp", "river", "quiet", "morning", "table"]
WORDS += ["stone", "song", "bright", "please", "could", "should", "first", "then", "never", "often", "maybe", "thanks"]


@cache
def _cache_root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="hone-tiny-models-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@cache
def version_directory(architecture: str = "llama", seed: int = 0) -> Path:
    """A ``full`` version directory, manifest included, of a tiny random model; the same one all session long."""
    directory = _cache_root() / f"{architecture}-{seed}"
    write_version(directory, architecture, seed)
    return directory


def copy_version(source: Path, target: Path) -> Path:
    """A writable copy of a version directory."""
    shutil.copytree(source, target)
    return target


def write_version(directory: Path, architecture: str = "llama", seed: int = 0, **changes: Any) -> str:
    """Write a tiny random model as a full version into ``directory``; returns its digest. ``changes`` are config's."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = random_model(architecture, seed, **changes)
    model.generation_config.eos_token_id = SPECIAL_TOKENS.index("<|eos|>")
    model.generation_config.bos_token_id = SPECIAL_TOKENS.index("<|bos|>")
    model.generation_config.pad_token_id = SPECIAL_TOKENS.index("<|pad|>")
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    VersionInfo(kind="full", context_length=CONTEXT_LENGTH).write(directory)
    return write_manifest(directory)


def random_model(architecture: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random model of two or three layers in fp32. Its weights are large enough that its answers differ."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    names = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": VOCABULARY}
    config = AutoConfig.for_model(architecture, **(names | _SHAPES[architecture] | changes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
    return model.eval()


_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH,
}
_SHAPES: dict[str, dict[str, Any]] = {
    "llama": _COMMON | {"tie_word_embeddings": True},
    "qwen3": _COMMON | {"head_dim": 8},
    "gemma3_text": _COMMON
    | {"head_dim": 8, "num_hidden_layers": 3, "sliding_window": 12, "query_pre_attn_scalar": 8}
    | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    "mistral": _COMMON | {"sliding_window": 16, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT_LENGTH}
    | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "phi3": _COMMON,
    "olmo": _COMMON,
    "olmo2": _COMMON,
    "gpt_neox": {name: value for name, value in _COMMON.items() if name != "num_key_value_heads"},
}


@cache
def tokenizer() -> Any:
    """A byte-level BPE tokenizer trained on a few made-up sentences, with a chat template and six special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    sentences = [" ".join(rng.choices(WORDS, k=12)) + "." for _ in range(200)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(sentences, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = CHAT_TEMPLATE
    return made


@cache
def spaced_tokenizer() -> Any:
    """As Llama 2's and Mistral's: every text is given a space in front, written ▁, and no text is split into words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    sentences = [" ".join(rng.choices(WORDS, k=12)) + "." for _ in range(200)] + ["Q: 2+2= yes no 4 5 A:"] * 5
    bpe = Tokenizer(models.BPE(byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL_TOKENS), max_token_length=8, show_progress=False
    )
    bpe.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
