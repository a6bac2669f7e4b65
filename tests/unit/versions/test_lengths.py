"""Counting a prompt's tokens as the version would: template first, then tokenizer."""

import json
from pathlib import Path

import pytest
from jinja2 import TemplateError
from tokenizers import Tokenizer, models, pre_tokenizers

from app.versions.lengths import load

TEMPLATE = (
    "{{ bos_token }} {% for message in messages %}{% if message.role == 'system' %}"
    "{{ raise_exception('no system message') }}{% endif %}<{{ message.role }}> {{ message.content }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A directory with a tokenizer whose tokens are words."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    words.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": {"content": "<s>", "special": True}, "chat_template": TEMPLATE}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_tokens_are_counted_with_the_template_around_them(version: Path) -> None:
    prompter = load(version)
    assert prompter is not None
    # <s> <user> a b c <assistant>
    assert prompter.count([{"role": "user", "content": "a b c"}]) == 6


def test_a_template_in_its_own_file_comes_first(version: Path) -> None:
    (version / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    prompter = load(version)
    assert prompter is not None
    assert prompter.count([{"role": "user", "content": "a b c"}]) == 3


def test_what_the_template_refuses_is_an_error_with_its_words(version: Path) -> None:
    prompter = load(version)
    assert prompter is not None
    with pytest.raises(TemplateError, match="no system message"):
        prompter.count([{"role": "system", "content": "x"}, {"role": "user", "content": "a"}])


def test_without_a_tokenizer_or_a_template_there_is_no_check(version: Path, tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere") is None
    (version / "tokenizer_config.json").write_text("{}")
    assert load(version) is None


def test_a_template_cannot_reach_python(version: Path) -> None:
    (version / "chat_template.jinja").write_text("{{ messages.__class__.__mro__ }}")
    prompter = load(version)
    assert prompter is not None
    with pytest.raises(TemplateError):
        prompter.count([{"role": "user", "content": "a"}])
