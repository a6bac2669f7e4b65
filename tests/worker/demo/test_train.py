"""The recipe: batches within their budget, only the assistant's words in the loss, the same weights for a seed."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from app.versions.manifest import VersionInfo, verify
from worker.demo import tokenizer as demo_tokenizer
from worker.demo.corpus import conversations
from worker.demo.train import Recipe, batches, build_model, loss_sum, save, train

TINY = Recipe(
    steps=8,
    tokens_per_process=512,
    hidden=32,
    feed_forward=64,
    layers=2,
    heads=2,
    key_value_heads=1,
    warmup_steps=2,
    tokenizer_conversations=300,
    pool_conversations=48,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    texts = [m["content"] for c in itertools.islice(conversations(random.Random(0)), 300) for m in c]
    return demo_tokenizer.learn(texts, TINY.context_length)


def test_encoding_is_what_the_chat_template_says(tokenizer: PreTrainedTokenizerFast) -> None:
    for messages in itertools.islice(conversations(random.Random(8)), 60):
        ids, said = demo_tokenizer.encode(tokenizer, messages)
        assert ids == tokenizer.apply_chat_template(messages, return_dict=False)
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id
        expected = "".join(m["content"] + "<|end|>" for m in messages if m["role"] == "assistant")
        assert tokenizer.decode([token for token, counts in zip(ids, said, strict=True) if counts]) == expected


def test_batches_keep_to_their_budget_and_pad_on_the_right(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = batches(conversations(random.Random(1)), tokenizer, TINY, random.Random(2))
    for batch in itertools.islice(stream, 30):
        assert batch.ids.numel() <= TINY.tokens_per_process
        assert batch.ids.shape == batch.said.shape
        assert bool((batch.ids[:, 0] == tokenizer.bos_token_id).all())
        assert not bool(batch.said[batch.ids == tokenizer.pad_token_id].any())
        assert float((batch.ids == tokenizer.pad_token_id).float().mean()) < 0.5


def test_padding_and_the_users_words_do_not_change_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    """The sum over a padded batch is the sum over its rows alone; other user words change only what they condition."""
    torch.manual_seed(0)
    model = build_model(TINY, tokenizer).eval()
    batch = next(batches(conversations(random.Random(1)), tokenizer, TINY, random.Random(2)))
    total, count = loss_sum(model, batch)
    alone = 0.0
    for ids, said in zip(batch.ids, batch.said, strict=True):
        length = int((ids != tokenizer.pad_token_id).sum())
        row = replace(batch, ids=ids[None, :length], said=said[None, :length])
        alone += float(loss_sum(model, row)[0].detach())
    assert float(total.detach()) == pytest.approx(alone, rel=1e-5)
    assert count == int(batch.said[:, 1:].sum())


def test_training_lowers_the_loss_and_the_same_seed_gives_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, tokenizer, loss = train(TINY)
    second, _, _ = train(TINY)
    other, _, _ = train(replace(TINY, seed=1))
    weights = [dict(model.named_parameters()) for model in (first, second, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert not all(torch.equal(tensor, weights[2][name]) for name, tensor in weights[0].items())
    assert loss < 8.2  # ln 4096 = 8.32 is knowing nothing
    assert "held out" in capsys.readouterr().out

    digest = save(first, tokenizer, TINY, loss, tmp_path / "model")
    assert verify(tmp_path / "model") == digest
    assert VersionInfo.read(tmp_path / "model").context_length == TINY.context_length
