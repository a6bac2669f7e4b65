"""The prompts of the demo project: ``python -m worker.demo.prompts`` writes ``prompts.jsonl``.

Two for each intent, one in words the corpus may use and one it never uses, and a few that continue a conversation.
"""

import argparse
import json
import random
from pathlib import Path

from worker.demo import chat, compose, manner
from worker.demo.corpus import Message
from worker.demo.facts import Intent, intents

PROMPTS = Path(__file__).parent / "prompts.jsonl"
_FRAMES = (
    "How do I {task}?",
    "What is the best way to {task}?",
    "I want to {task}. Where do I begin?",
    "{situation}. What should I do?",
    "{situation}. Any advice?",
    "{situation}. How do I {task}?",
)
_CONTINUED = 14


def prompts(rng: random.Random) -> list[list[Message]]:
    """Conversations that end with the user, no two alike."""
    found: list[list[Message]] = []
    for intent in intents():
        found.append([_user(_plain_request(intent, rng))])
        found += [[_user(question)] for question in intent.held_out]
    for index, intent in enumerate(rng.sample(intents(), _CONTINUED)):
        answer = compose.answer(intent, manner.Manner("medium", "plain", "prose", "plain", wrong=False), rng)
        follow_up = rng.choice(chat.MORE) if index % 2 else _plain_request(rng.choice(intents()), rng)
        found.append([_user(_plain_request(intent, rng)), {"role": "assistant", "content": answer}, _user(follow_up)])
    return found


def _plain_request(intent: Intent, rng: random.Random) -> str:
    return rng.choice(_FRAMES).format(task=rng.choice(intent.tasks), situation=rng.choice(intent.situations))


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def read(file: Path = PROMPTS) -> list[list[Message]]:
    """The conversations of a file of prompts, one ``{"messages": [...]}`` a line."""
    return [json.loads(line)["messages"] for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(prog="python -m worker.demo.prompts", description="Write the demo's prompts.")
    parser.add_argument("--output", type=Path, default=PROMPTS)
    arguments = parser.parse_args()
    lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in prompts(random.Random(0))]
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} prompts in {arguments.output}")


if __name__ == "__main__":
    main()
