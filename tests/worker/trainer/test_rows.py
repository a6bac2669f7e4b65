"""Rows as token ids: everything a chat template reads, where an answer begins, and what the audit is told of it."""

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tokenizers import normalizers

from tests.factories.models import CHAT_TEMPLATE, spaced_tokenizer, tokenizer
from worker.trainer.audit import Finding
from worker.trainer.data import Group
from worker.trainer.dataset import load_groups
from worker.trainer.errors import RefusedError

EOS = 2
TOOL_TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|system|>{{ tools | tojson }}{% endif %}{% for message in messages %}"
    "<|{{ message['role'] }}|>{% if message.reasoning_content %}({{ message.reasoning_content }}){% endif %}"
    "{{ message['content'] }}{% if message.tool_calls %}CALL{{ message.tool_calls | tojson }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking %}(think){% endif %}{% endif %}"
)
THINKING_TEMPLATE = CHAT_TEMPLATE.replace(
    "{% if add_generation_prompt %}<|assistant|>", "{% if add_generation_prompt %}<|assistant|>(think)\n"
)
TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {}}}]
CALL = {"type": "function", "function": {"name": "lookup", "arguments": {"q": "tea"}}}


def with_template(template: str | None) -> Any:
    made = copy.deepcopy(tokenizer())
    made.chat_template = template
    return made


def read(
    file: Path, made: Any, rows: list[Any], eval_fraction: float | None = 0.0
) -> tuple[list[Group], list[Finding]]:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_groups([file], made, frozenset({EOS}), eval_fraction)


def user(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def says(content: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": content}]


CALLING = {
    "prompt": user("tea"),
    "chosen": [{"role": "assistant", "content": None, "tool_calls": [CALL]}],
    "rejected": [*says("boat")],
    "tools": TOOLS,
}


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)], ids=["list", "text"])
def test_tools_and_their_calls_are_rendered(tmp_path: Path, tools: Any) -> None:
    made = with_template(TOOL_TEMPLATE)
    ((group,), findings) = read(tmp_path / "a.jsonl", made, [CALLING | {"tools": tools}])
    assert made.decode(group.prompt_ids) == f"<|bos|><|system|>{json.dumps(TOOLS)}<|user|>tea<|assistant|>"
    assert made.decode(group.completions[0].ids) == f"CALL{json.dumps([CALL])}<|eos|>"
    assert findings == []


def test_parquet_says_of_tools_what_json_lines_do(tmp_path: Path) -> None:
    """Its messages share their fields: those without tool calls have null."""
    made = with_template(TOOL_TEMPLATE)
    rows = [CALLING | {"tools": json.dumps(TOOLS)}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    packed = load_groups([tmp_path / "a.parquet"], made, frozenset({EOS}), 0.0)
    assert packed == read(tmp_path / "a.jsonl", made, rows)


def test_whatever_a_message_has_and_the_template_is_told(tmp_path: Path) -> None:
    made = with_template(TOOL_TEMPLATE)
    row = {
        "prompt": user("tea"),
        "chosen": [{"role": "assistant", "content": "boat", "reasoning_content": "walk"}],
        "rejected": says("rain"),
        "chat_template_kwargs": {"enable_thinking": True},
    }
    ((group,), findings) = read(tmp_path / "a.jsonl", made, [row])
    assert made.decode(group.completions[0].ids) == "(walk)boat<|eos|>"
    assert made.decode(group.prompt_ids) == "<|bos|><|user|>tea<|assistant|>"
    (cut,) = findings
    assert cut.name == "prompts cut where the chat template goes on otherwise"
    assert (cut.level, cut.value) == ("warn", "1, such as '(think)' alone and 'rain<|eos|>' before an answer")


def test_what_the_template_leaves_out_is_told(tmp_path: Path) -> None:
    prompt = [*user("tea"), {"role": "tool", "content": "42", "name": "lookup"}]
    row = {"prompt": prompt, "chosen": says("boat"), "rejected": says("rain"), "tools": TOOLS}
    _, findings = read(tmp_path / "a.jsonl", tokenizer(), [row | {"chat_template_kwargs": {"enable_thinking": False}}])
    names = [finding.name.removeprefix("left out by the chat template: ") for finding in findings]
    assert names == ["enable_thinking", "name", "tools"]
    assert {(finding.level, finding.value) for finding in findings} == {("warn", "1 of 1 rows")}


def test_a_generation_prompt_that_full_turns_lack(tmp_path: Path) -> None:
    """As DeepSeek-R1's distillations have it: the answer begins where both part, as in TRL, and both ends are shown."""
    made = with_template(THINKING_TEMPLATE)
    ((group,), (finding,)) = read(
        tmp_path / "a.jsonl", made, [{"prompt": user("tea"), "chosen": says("boat"), "rejected": says("rain")}]
    )
    assert made.decode(group.prompt_ids) == "<|bos|><|user|>tea<|assistant|>"
    assert [made.decode(c.ids) for c in group.completions] == ["boat<|eos|>", "rain<|eos|>"]
    assert finding.value == "1, such as '(think)\\n' alone and 'boat<|eos|>' before an answer"


@pytest.mark.parametrize("content", ["boat", "boat<|eos|>"], ids=["Phi-3's template", "an end token of its own"])
def test_an_answer_ends_where_sampling_would(tmp_path: Path, content: str) -> None:
    """At the first of several end tokens with nothing between them, and not before a further turn."""
    template = CHAT_TEMPLATE.replace("{% endif %}{% endfor %}", "\n{% endif %}{% endfor %}") + (
        "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    )
    made = with_template(template)
    turns = [*says("rain"), *user("walk"), *says("lamp")]
    rows = [{"prompt": user("tea"), "chosen": says(content), "rejected": turns}]
    ((group,), _) = read(tmp_path / "a.jsonl", made, rows)
    texts = [made.decode(completion.ids) for completion in group.completions]
    assert texts == ["boat<|eos|>", "rain<|eos|>\n<|user|>walk<|assistant|>lamp<|eos|>"]


def test_plain_texts_for_a_model_that_chats_are_told(tmp_path: Path) -> None:
    rows = [
        {"prompt": "tea", "chosen": " boat", "rejected": " rain"},
        {"prompt": user("tea"), "chosen": says("boat"), "rejected": says("rain")},
    ]
    _, (finding,) = read(tmp_path / "a.jsonl", tokenizer(), rows)
    assert (finding.name, finding.level) == ("plain texts beside the chat template", "warn")
    assert finding.value == "1, such as 'tea'"


def test_rows_whose_answers_are_the_same_are_left_out_and_counted(tmp_path: Path) -> None:
    """Public data sets have some of them; the others are trained on."""
    same = {"prompt": user("tea"), "chosen": says("boat"), "rejected": says("boat")}
    other = {"prompt": user("lamp"), "chosen": says("boat"), "rejected": says("rain")}
    ((group,), (finding,)) = read(tmp_path / "a.jsonl", tokenizer(), [same, other, same])
    assert group.prompt_ids == tokenizer().apply_chat_template(
        other["prompt"], add_generation_prompt=True, return_dict=False
    )
    assert (finding.name, finding.value, finding.level) == (
        "rows whose answers are the same",
        "2, such as 'boat'",
        "warn",
    )
    with pytest.raises(RefusedError, match="holds 2 rows, and in each chosen and rejected are the same"):
        read(tmp_path / "a.jsonl", tokenizer(), [same, same])


def test_a_template_that_tells_the_prompt_itself_otherwise_is_refused(tmp_path: Path) -> None:
    template = CHAT_TEMPLATE.replace("{{ message['content'] }}", "{{ messages|length }}{{ message['content'] }}")
    row = {"prompt": user("tea boat rain walk"), "chosen": says("boat"), "rejected": says("rain")}
    with pytest.raises(RefusedError, match=r"line 1: the chat template renders prompt \+ chosen other than"):
        read(tmp_path / "a.jsonl", with_template(template), [row])


def test_held_out_prompts_are_the_same_wherever_answers_cut_them(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"tea {n} ", "chosen": chosen, "rejected": rejected}
        for n in range(40)
        for chosen, rejected in (("boat", "rain"), ("1", "2"))
    ]
    groups, _ = read(tmp_path / "a.jsonl", tokenizer(), rows, 0.5)
    assert len(groups) == 80
    split: dict[str, set[str]] = {}
    for group in groups:
        split.setdefault(tokenizer().decode(group.prompt_ids).strip(), set()).add(group.split)
    assert len(split) == 40
    assert all(len(splits) == 1 for splits in split.values())


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"), [("tea 2+2=", "4", "5"), ("Q: tea A:", " yes", " no"), ("tea ", "boat", "rain")]
)
def test_plain_answers_have_the_tokens_of_trl(tmp_path: Path, prompt: str, chosen: str, rejected: str) -> None:
    """Tokenised behind the prompt: alone they would be given a space that nobody wrote."""
    made = spaced_tokenizer()
    ((group,), _) = read(tmp_path / "a.jsonl", made, [{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
    for completion, answer in zip(group.completions, (chosen, rejected), strict=True):
        together = [*group.prompt_ids, *completion.ids]
        assert together == made(f"{prompt}{answer}<|eos|>")["input_ids"]
        assert made.decode(together) == f"{prompt}{answer}<|eos|>"


def test_prompts_that_merge_with_an_answer_are_counted(tmp_path: Path) -> None:
    rows = [{"prompt": f"{word} ", "chosen": "boat", "rejected": "rain"} for word in ("tea", "lamp")]
    groups, (finding,) = read(tmp_path / "a.jsonl", with_template(None), rows)
    assert [tokenizer().decode(group.prompt_ids) for group in groups] == ["tea", "lamp"]
    assert finding.name == "prompts cut where they merge with an answer"
    assert finding.value == "2, such as ' ' alone and ' boat' before an answer"


def test_a_prompt_of_one_token_is_never_merged_away(tmp_path: Path) -> None:
    ((group,), _) = read(tmp_path / "a.jsonl", tokenizer(), [{"prompt": "te", "chosen": "a", "rejected": "n"}])
    assert tokenizer().decode(group.prompt_ids) == "te"


def test_texts_that_the_tokenizer_changes_are_counted(tmp_path: Path) -> None:
    made = with_template(None)
    made.backend_tokenizer.normalizer = normalizers.Replace(",", " ")
    rows = [{"prompt": "tea", "chosen": f"{mark} boat", "rejected": " rain"} for mark in (",", ".")]
    _, (finding,) = read(tmp_path / "a.jsonl", made, rows)
    assert finding.name == "texts that read otherwise in their place"
    assert finding.value == "1 of 4, such as 'tea  boat'"
    right = [{"prompt": "<|bos|>tea", "chosen": " boat<|eos|>", "rejected": " <|user|> rain"}]
    assert read(tmp_path / "a.jsonl", with_template(None), right)[1] == []


def test_a_model_without_a_template_reads_plain_texts(tmp_path: Path) -> None:
    made = with_template(None)
    plain = {"prompt": "tea", "chosen": " boat", "rejected": " rain"}
    assert len(read(tmp_path / "a.jsonl", made, [plain])[0]) == 1
    talk = {"prompt": user("tea"), "chosen": says("boat"), "rejected": says("rain")}
    with pytest.raises(RefusedError, match="line 2: prompt is a conversation, and the model has no chat template"):
        read(tmp_path / "a.jsonl", made, [plain, talk])


@pytest.mark.parametrize(
    "prompt",
    ["tea ", user("tea"), [{"role": "system", "content": "walk"}, *user("tea")]],
    ids=["text", "turn", "system"],
)
def test_answers_that_are_whole_conversations(tmp_path: Path, prompt: Any) -> None:
    """As in UltraFeedback: the prompt stands at their beginning, and is not trained on."""
    before = user("tea") if isinstance(prompt, str) else prompt
    row = {"prompt": prompt, "chosen": [*before, *says("boat")], "rejected": [*before, *says("rain")]}
    label = {"prompt": prompt, "completion": [*before, *says("walk")], "label": True}
    whole, findings = read(tmp_path / "a.jsonl", tokenizer(), [row, label])
    assert [(finding.name, finding.value) for finding in findings] == [("prompts taken off whole conversations", "2")]
    apart = [
        {"prompt": before, "chosen": says("boat"), "rejected": says("rain")},
        {"prompt": before, "completion": says("walk"), "label": True},
    ]
    assert whole == read(tmp_path / "b.jsonl", tokenizer(), apart)[0]
    with pytest.raises(RefusedError, match="chosen is the prompt alone"):
        read(tmp_path / "a.jsonl", tokenizer(), [row | {"chosen": before}])


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "tea", "chosen": "tea boat", "rejected": "tea rain"}, "answers that begin with their prompt"),
        (
            {"prompt": "tea", "chosen": " boat<|eos|>\n", "rejected": " rain"},
            "answers with an end token before their end",
        ),
    ],
)
def test_rows_that_are_probably_not_meant_so(tmp_path: Path, row: Any, name: str) -> None:
    _, (finding,) = read(tmp_path / "a.jsonl", with_template(None), [row])
    assert (finding.name, finding.level, finding.value) == (name, "warn", "1")


def test_a_share_that_holds_nothing_out_is_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"tea {n}", "chosen": " boat", "rejected": " rain"} for n in (1, 2)]
    _, (finding,) = read(tmp_path / "a.jsonl", with_template(None), rows, 0.01)
    assert (finding.name, finding.value) == ("prompts held out", "0 of 2, at a share of 0.01")
    assert read(tmp_path / "a.jsonl", with_template(None), rows, 0.0)[1] == []


def test_a_share_means_nothing_for_groups(tmp_path: Path) -> None:
    from tests.factories.jobs import make_groups

    (finding,) = read(tmp_path / "a.jsonl", tokenizer(), make_groups(2, 1), 0.1)[1]
    assert finding.name == "groups held out by eval_fraction"
    assert read(tmp_path / "a.jsonl", tokenizer(), make_groups(2, 1), None)[1] == []
