"""docs/api.md shows a program that uses the official `openai` SDK; here it runs, against a real stack."""

import os
import re
import subprocess
import sys

from sqlalchemy import select

from app.db.migrations import ROOT
from app.db.tables import Comparison, Completion, CompletionLabel, Prompt, Vote
from tests.fixtures.talking import Talking


def documented() -> str:
    """The Python of the section on talking to a model, as one program."""
    text = (ROOT / "docs" / "api.md").read_text()
    section = text.split("\n## Talking to a model\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def test_the_example_of_the_documentation_runs_and_does_what_it_says(talk: Talking) -> None:
    program = documented()
    assert program.count("client.") >= 6
    environment = {**os.environ, "HONE_URL": talk.server.url, "HONE_TOKEN": talk.token(keeps="answers")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "model: demo"
    assert lines[1].startswith("demo@1 said: ")
    assert len(lines[1]) > len("demo@1 said: ") + 5
    assert lines[-1] == "refused: model_not_found"
    with talk.server.db() as db:
        (prompt,) = db.scalars(select(Prompt)).all()
        comparison = db.scalars(select(Comparison)).one()
        (vote,) = db.scalars(select(Vote)).all()
        (label,) = db.scalars(select(CompletionLabel)).all()
        assert f"answers pair: {comparison.id}" in lines
        assert f"used for: {'evaluation' if prompt.held_out else 'training'}" in lines
        assert (prompt.source, comparison.strategy, comparison.state) == ("chat", "chat", "open")
        assert (vote.source, vote.choice, vote.comment) == ("feedback", "b", "Shorter.")
        assert (label.desirable, label.completion_id) == (True, comparison.completion_a_id)
        assert len(db.scalars(select(Completion)).all()) == 4, "every answer of the key is kept"
