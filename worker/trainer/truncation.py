"""Prompts cut at their beginning so that prompt and answer fit into the context; answers are never cut."""

from collections.abc import Sequence
from dataclasses import replace

from worker.trainer.audit import Finding
from worker.trainer.data import Group


def shorten(groups: Sequence[Group], max_length: int, bos_id: int | None) -> tuple[list[Group], list[Finding]]:
    """``groups`` with their prompts cut to what their judged answers leave of ``max_length``, and what the audit tells.

    Begin tokens in front stay, and at least one token of the prompt itself: an answer that does not fit behind those
    is too long by itself, and no prompt is cut for it. Groups are cut once, for the longest of their answers.
    """
    made = [_shortened(group, max_length, bos_id) for group in groups]
    cut = [len(before.prompt_ids) - len(after.prompt_ids) for before, after in zip(groups, made, strict=True)]
    count = sum(tokens > 0 for tokens in cut)
    if not count:
        return made, []
    value = f"{count} of {len(groups)}, by {sum(cut)} tokens"
    note = "what their answers reply to may be among that; raise max_length if the model's context allows it"
    return made, [Finding("prompts cut at their beginning", value, "warn", note)]


def _shortened(group: Group, max_length: int, bos_id: int | None) -> Group:
    prompt = group.prompt_ids
    begin = next((place for place, token in enumerate(prompt) if token != bos_id), len(prompt))
    lengths = [len(group.completions[index].ids) for index in _judged(group)]
    room = max_length - max((length for length in lengths if begin + 1 + length <= max_length), default=0)
    if not lengths or len(prompt) <= room:
        return group
    return replace(group, prompt_ids=[*prompt[:begin], *prompt[len(prompt) - room + begin :]])


def _judged(group: Group) -> set[int]:
    """Indices of the completions that somebody said something about."""
    return (
        {index for item in group.preferences for index in (item.a, item.b)}
        | {item.completion for item in group.labels}
        | {index for item in group.rankings for tier in item.tiers for index in tier}
    )
