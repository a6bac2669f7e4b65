"""The audit before the first step: would training on this be right? A table, and a refusal with the mend where not.

Data checks need groups and tokenizer only; model checks compare forward passes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from app.rounds.spec import LOSSES, SIGNALS
from worker.trainer.data import Completion, Group
from worker.trainer.errors import RefusedError
from worker.trainer.examples import Examples

Level = Literal["ok", "warn", "refuse"]

NEAR_IDENTICAL = 0.9
"""1 − edit distance / length of the longer one, in tokens, from which two completions count as nearly the same."""
DECODE_SAMPLE = 2000
DECODE_MISMATCH_SHARE = 0.05
"""Share of completions whose ids do not decode to their text above which the tokenizer is another one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit; ``note`` is the mend where the level is not 'ok'."""

    name: str
    value: str
    level: Level = "ok"
    note: str = ""


@dataclass(slots=True)
class Audit:
    """All findings of a job, in the order they were made."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> None:
        """Append, then stop the job if any of them says that training would be wrong.

        Raises:
            RefusedError: naming every refusal and its mend.
        """
        self.findings += findings
        refused = [f"{f.name}: {f.value}; {f.note}" for f in self.findings if f.level == "refuse"]
        if refused:
            raise RefusedError("refused by the audit: " + " · ".join(refused))

    def table(self) -> str:
        """Plain text, a line a finding."""
        mark = {"ok": " ", "warn": "!", "refuse": "x"}
        width = max((len(finding.name) for finding in self.findings), default=0)
        lines = [
            f"{mark[f.level]} {f.name:<{width}}  {f.value}{f'  ({f.note})' if f.note else ''}" for f in self.findings
        ]
        return "\n".join(lines)

    def to_list(self) -> list[dict[str, str]]:
        """JSON-ready."""
        return [{"name": f.name, "value": f.value, "level": f.level, "note": f.note} for f in self.findings]


def data_findings(
    groups: Sequence[Group],
    examples: Examples,
    tokenizer: Any,
    *,
    eos_ids: frozenset[int],
    vocabulary: int,
    max_length: int,
) -> list[Finding]:
    """Everything that can be told from the tokens alone."""
    return [
        *_counts(examples),
        _too_long(groups, max_length),
        _leak(groups),
        _vocabulary(groups, vocabulary),
        _bos(groups, tokenizer, eos_ids),
        *_ends(groups, eos_ids),
        _decoded(groups, tokenizer, eos_ids),
        *_pair_findings(examples),
    ]


def _counts(examples: Examples) -> list[Finding]:
    train = sum(example.preferences for example in examples.train)
    held_out = sum(example.preferences for example in examples.eval)
    found = [
        Finding(
            "preferences to train on",
            f"{train} in {len(examples.train)} groups",
            "ok" if train else "refuse",
            "" if train else _nothing(examples),
        ),
        Finding("held-out preferences", f"{held_out} in {len(examples.eval)} groups"),
    ]
    found += [Finding(f"learned from: {signal}", str(count)) for signal, count in sorted(examples.used.items())]
    found += [Finding(f"left out: {reason}", str(count)) for reason, count in sorted(examples.unused.items())]
    return found


def _nothing(examples: Examples) -> str:
    if not examples.unused:
        return (
            "every group is held out or has no preference; collect votes on prompts that are trained on, or hold out "
            "fewer (eval_fraction)"
        )
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(examples.unused.items()))
    mends = ["collect clear choices", *(["raise max_length"] if examples.unused["too long"] else [])]
    for signal in SIGNALS:
        if examples.unused[signal] and signal != "margin":
            readers = ", ".join(name for name, loss in LOSSES.items() if signal in loss.signals)
            mends.append(f"use a loss that reads {signal} ({readers})")
    return f"nothing is left for this loss ({reasons}); {', or '.join(mends)}"


def _too_long(groups: Sequence[Group], max_length: int) -> Finding:
    longest = max(group.length for group in groups)
    if longest <= max_length:
        return Finding("longest prompt + completion", f"{longest} of {max_length} tokens")
    count = sum(len(g.prompt_ids) + len(c.ids) > max_length for g in groups for c in g.completions)
    note = "left out with their judgements, never cut: shorten max_tokens of sampling, or raise max_length"
    value = f"{count} of {len(_completions(groups))} above {max_length} tokens with their prompt"
    return Finding("completions too long", value, "warn", note)


def _leak(groups: Sequence[Group]) -> Finding:
    prompts = {split: {tuple(g.prompt_ids) for g in groups if g.split == split} for split in ("train", "eval")}
    shared = len(prompts["train"] & prompts["eval"])
    note = "held-out figures would be of prompts trained on; put every group of a prompt in one split"
    return Finding("prompts in both splits", str(shared), *(("refuse", note) if shared else ()))


def _vocabulary(groups: Sequence[Group], vocabulary: int) -> Finding:
    prompts = max(max(group.prompt_ids) for group in groups)
    highest = max([prompts, *(max(completion.ids) for completion in _completions(groups))])
    if highest < vocabulary:
        return Finding("highest token id", f"{highest} of {vocabulary}")
    note = "the ids come from another tokenizer; sample or tokenise again with this model's"
    return Finding("highest token id", f"{highest}, but the model has {vocabulary}", "refuse", note)


def _bos(groups: Sequence[Group], tokenizer: Any, eos_ids: frozenset[int]) -> Finding:
    """Whether prompts begin with as many BOS as the tokenizer itself would put, and never two.

    And that no completion begins with one; where BOS ends answers, too (as GPT-2's), an empty answer does.
    """
    bos = tokenizer.bos_token_id
    if bos is None:
        return Finding("BOS", "none in this tokenizer")
    expected = {_leading(tokenizer("x")["input_ids"], bos)}
    if tokenizer.chat_template:
        probe = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}], tokenize=True, add_generation_prompt=True, return_dict=False
        )
        expected.add(_leading(probe, bos))
    found = Counter(_leading(group.prompt_ids, bos) for group in groups)
    wrong = sum(count for leading, count in found.items() if leading > 1 or leading not in expected)
    inside = 0 if bos in eos_ids else sum(completion.ids[0] == bos for completion in _completions(groups))
    if wrong or inside:
        value = f"{wrong} prompts begin with {sorted(found)} BOS, {inside} completions with one"
        note = f"prompts begin with {' or '.join(map(str, sorted(expected)))}; tokenise the rendered template once"
        return Finding("BOS", value, "refuse", note)
    if found == {1: len(groups)}:
        return Finding("BOS", "one in every prompt")
    counts = ", ".join(f"{leading or 'none'} in {count} prompts" for leading, count in sorted(found.items()))
    return Finding("BOS", f"{counts}, as the {'template' if tokenizer.chat_template else 'tokenizer'} has it")


def _leading(ids: Sequence[int], bos: int) -> int:
    return next((i for i, token in enumerate(ids) if token != bos), len(ids))


def _ends(groups: Sequence[Group], eos_ids: frozenset[int]) -> list[Finding]:
    """A completion ends with an end token if and only if it ended by itself."""
    completions = _completions(groups)
    lacking = sum(c.end == "eos" and c.ids[-1] not in eos_ids for c in completions)
    extra = sum(c.end in ("stop", "length") and c.ids[-1] in eos_ids for c in completions)
    open_ended = sum(c.end == "human" and c.ids[-1] not in eos_ids for c in completions)
    inside = sum(not eos_ids.isdisjoint(c.ids[:-1]) for c in completions)
    cut = sum(c.end == "length" for c in completions)
    found = []
    if lacking or extra:
        value = f"{lacking} said to have ended lack the end token, {extra} said to be cut off have it"
        note = f"end is 'eos' exactly where the last sampled id is one of {sorted(eos_ids)}; keep the sampled ids"
        found.append(Finding("end tokens", value, "refuse", note))
    else:
        found.append(Finding("end tokens", f"right in {len(completions)} completions"))
    if open_ended:
        note = "written answers without an end token teach the model not to stop; append it"
        found.append(Finding("written answers without end", str(open_ended), "warn", note))
    if inside:
        found.append(Finding("end token inside", str(inside), "warn", "text goes on behind an end token"))
    level: Level = "warn" if cut * 5 > len(completions) else "ok"
    note = "more than a fifth was cut off at max_tokens; sample longer answers" if level == "warn" else ""
    return [*found, Finding("cut off by length", f"{cut} of {len(completions)} completions", level, note)]


def _decoded(groups: Sequence[Group], tokenizer: Any, eos_ids: frozenset[int]) -> Finding:
    """Whether ids decode to the text people saw; text of a 'stop' may lack the stop string."""
    completions = [c for c in _completions(groups) if c.text is not None]
    sample = completions[:: max(1, len(completions) // DECODE_SAMPLE)]
    wrong = sum(not _reads_as_seen(completion, tokenizer, eos_ids) for completion in sample)
    value = f"{len(sample) - wrong} of {len(sample)} as people saw them"
    if wrong > DECODE_MISMATCH_SHARE * len(sample):
        note = "the ids and the text disagree: another tokenizer, or text that was tokenised again; keep sampled ids"
        return Finding("ids decode to text", value, "refuse", note)
    return Finding("ids decode to text", value, *(("warn", "a few differ") if wrong else ()))


def _reads_as_seen(completion: Completion, tokenizer: Any, eos_ids: frozenset[int]) -> bool:
    """Special tokens (a think tag, an end token that was typed) may have been seen or not."""
    text, ids = (completion.text or "").strip(), completion.ids
    inner = ids[:-1] if ids[-1] in eos_ids else ids
    decoded = [
        tokenizer.decode(some, skip_special_tokens=skip, clean_up_tokenization_spaces=False).strip()
        for some, skip in ((ids, True), (inner, False), (ids, False))
    ]
    return any(seen.startswith(text) if completion.end == "stop" else seen == text for seen in decoded)


def _pair_findings(examples: Examples) -> list[Finding]:
    votes: dict[tuple[tuple[int, ...], ...], Counter[bool]] = {}
    near = total = cut = 0
    for example in examples.all:
        similar: dict[tuple[int, int], bool] = {}
        used = {i for pair in example.pairs for i in (pair.chosen, pair.rejected)}
        ends = _used_ends(example.group, example.unit.completions) if used else []
        for pair in example.pairs:
            if pair.tie:
                continue
            total += 1
            a, b = sorted((pair.chosen, pair.rejected))
            if (a, b) not in similar:
                similar[a, b] = nearly_identical(example.unit.completions[a], example.unit.completions[b])
            near += similar[a, b]
            cut += "length" in (ends[a], ends[b])
            chosen, rejected = (tuple(example.unit.completions[i]) for i in (pair.chosen, pair.rejected))
            key = (tuple(example.unit.prompt_ids), *sorted((chosen, rejected)))
            votes.setdefault(key, Counter())[chosen < rejected] += 1
    repeated = sum(sum(counter.values()) - 1 for counter in votes.values())
    contradicting = sum(min(counter.values()) for counter in votes.values() if len(counter) > 1)
    note = ""
    if near * 5 > total:
        note = "such pairs push both likelihoods down; use loss 'dpop', or sample at a higher temperature"
    return [
        Finding("pairs with a cut-off side", f"{cut} of {total}"),
        Finding("nearly identical pairs", f"{near} of {total}", "warn" if note else "ok", note),
        Finding("repeated pairs", str(repeated)),
        Finding("contradicting preferences", f"{contradicting} of {total}"),
    ]


def _used_ends(group: Group, used: list[list[int]]) -> list[str]:
    by_ids = {tuple(completion.ids): completion.end for completion in group.completions}
    return [by_ids[tuple(ids)] for ids in used]


def nearly_identical(a: list[int], b: list[int]) -> bool:
    """Whether few token edits (insert, delete, replace) turn one completion into the other."""
    return Levenshtein.normalized_similarity(a, b, score_cutoff=NEAR_IDENTICAL) >= NEAR_IDENTICAL


def _completions(groups: Sequence[Group]) -> list[Completion]:
    return [completion for group in groups for completion in group.completions]
