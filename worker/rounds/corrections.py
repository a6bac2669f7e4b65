"""Tokenising what reviewers wrote, before a round reads it: by the tokenizer of the version that it starts from."""

import json
import logging
from pathlib import Path
from uuid import UUID

from tokenizers import Tokenizer

from app.db.session import transaction
from app.db.tables import Project
from app.preferences import corrections
from app.projects.aggregation import aggregation_of
from worker.context import Context
from worker.rounds.errors import RoundFailedError

logger = logging.getLogger(__name__)


def tokenise_corrections(context: Context, project_id: UUID, version: Path) -> int:
    """Make completions of all edits that have no tokens yet; how many. Short transactions, none open while tokenising.

    An edit ends as the answer it was made from did by itself, or with the version's own end token: a person who writes
    an answer means it to end there.

    Raises:
        RoundFailedError: there are edits, and the version has no tokenizer.json or names no end token.
    """
    made, tokenizer, end = 0, None, None
    while True:
        with transaction(context.factory) as db:
            project = db.get_one(Project, project_id)
            wanted = aggregation_of(project.aggregation).corrections
            edits = corrections.pending(db, project) if wanted else []
        if not edits:
            return made
        if tokenizer is None:
            tokenizer, end = _tokenizer(version), _end_id(version)
        encoded = []
        for edit in edits:
            last = edit.end_id if edit.end_id is not None else end
            if last is None:
                raise RoundFailedError(
                    "no_end_token",
                    f"Reviewers corrected answers, but {version} names no end token (eos_token_id), so the corrections "
                    "would have no end. Add it to the model's generation_config.json, or switch corrections off in the "
                    "project's settings.",
                )
            encoded.append((edit, [*tokenizer.encode(edit.text, add_special_tokens=False).ids, last]))
        with transaction(context.factory) as db:
            made += corrections.store(db, db.get_one(Project, project_id), encoded)
        logger.info("%d corrected answers were tokenised", len(encoded))


def _tokenizer(version: Path) -> Tokenizer:
    file = version / "tokenizer.json"
    if not file.is_file():
        raise RoundFailedError(
            "no_tokenizer",
            f"Reviewers corrected answers, but {version} has no tokenizer.json to read them with. Save the model with "
            "a fast tokenizer, or switch corrections off in the project's settings.",
        )
    return Tokenizer.from_file(str(file))


def _end_id(version: Path) -> int | None:
    for name in ("generation_config.json", "config.json"):
        file = version / name
        found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        first = found[0] if isinstance(found, list) and found else found
        if isinstance(first, int):
            return first
    return None
