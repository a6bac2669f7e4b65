"""What was noticed while a preference file was read: findings of the audit, kept beside the job's groups."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from worker.trainer.audit import Finding, Level

READING_FILE = "reading.json"

Note = Literal["identical", "plain", "merged", "template", "elsewhere", "repeated", "taken off", "ended twice"]

_SAID: dict[Note, tuple[str, Level, str]] = {
    "identical": (
        "rows whose answers are the same",
        "warn",
        "left out, for there is nothing to prefer",
    ),
    "plain": (
        "plain texts beside the chat template",
        "warn",
        "a model that chats is never asked so; give lists of messages, unless this is a base model",
    ),
    "merged": (
        "prompts cut where they merge with an answer",
        "warn",
        "the answer begins where the tokens part; end prompts where a token ends, such as before a space",
    ),
    "template": (
        "prompts cut where the chat template goes on otherwise",
        "warn",
        "the cut end stands before sampled answers and is not trained on; better is a template that keeps it",
    ),
    "elsewhere": (
        "texts that read otherwise in their place",
        "warn",
        "prompt and answer together decode to another text than was given: the tokenizer changes it",
    ),
    "repeated": (
        "answers that begin with their prompt",
        "warn",
        "the prompt is trained on twice; give the answers without it, or leave the prompt's column out",
    ),
    "taken off": ("prompts taken off whole conversations", "ok", ""),
    "ended twice": (
        "answers with an end token before their end",
        "warn",
        "another is put behind what follows it; remove the end token's text, or the whitespace behind it",
    ),
}


@dataclass(slots=True)
class Reading:
    """Counts of what rows were like, with an example of each."""

    rows: int = 0
    compared: int = 0
    """Plain answers that were decoded in their place."""
    noticed: Counter[Note] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    """Rows by the column or the message's field that the chat template leaves out."""
    _examples: dict[Note, str] = field(default_factory=dict)

    def note(self, what: Note, example: str = "") -> None:
        """Count one row or answer."""
        self.noticed[what] += 1
        self._examples.setdefault(what, example)

    def findings(self) -> list[Finding]:
        """In the order of ``_SAID``; nothing where nothing was noticed."""
        found = []
        for what, (name, level, mend) in _SAID.items():
            if self.noticed[what]:
                of = f" of {self.compared}" if what == "elsewhere" else ""
                example = self._examples[what]
                value = f"{self.noticed[what]}{of}{f', such as {example}' if example else ''}"
                found.append(Finding(name, value, level, mend))
        note = "nothing learns from it; use a template that reads it, or remove it"
        found += [
            Finding(f"left out by the chat template: {name}", f"{count} of {self.rows} rows", "warn", note)
            for name, count in sorted(self.unread.items())
        ]
        return found


def write_findings(job: Path, findings: list[Finding]) -> None:
    """Keep ``findings`` in the job directory."""
    lines = [{"name": f.name, "value": f.value, "level": f.level, "note": f.note} for f in findings]
    (job / READING_FILE).write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


def read_findings(job: Path) -> list[Finding]:
    """Those kept in the job directory; none in a round's."""
    file = job / READING_FILE
    if not file.is_file():
        return []
    return [Finding(**line) for line in json.loads(file.read_text(encoding="utf-8"))]
