"""How people ask: one intent in many wordings, with the slips of real typing."""

import random

from worker.demo.facts import Intent

FRAMES = (
    "How do I {task}?",
    "How can I {task}?",
    "How do you {task}?",
    "How should I {task}?",
    "What is the best way to {task}?",
    "What is a good way to {task}?",
    "What is the easiest way to {task}?",
    "Can you tell me how to {task}?",
    "Could you explain how to {task}?",
    "Do you have any tips to {task}?",
    "Any advice on how to {task}?",
    "I want to {task}. Where do I begin?",
    "I would like to {task}. What should I do?",
    "I am trying to {task}. What am I missing?",
    "I need to {task}. Can you help me?",
    "Help me {task}.",
    "Tell me how to {task}.",
    "Please explain how to {task}.",
    "What would you do to {task}?",
    "What should I know before I {task}?",
    "What do I have to do to {task}?",
    "Is there a trick to {task}?",
    "Why is it so hard to {task}?",
    "What helps to {task}?",
    "how to {task}",
    "{task}",
    "tips to {task}",
    "I have a question about {topic}. How do I {task}?",
)
SITUATION_FRAMES = (
    "{situation}. What can I do?",
    "{situation}. What should I do?",
    "{situation}. Any advice?",
    "{situation}. Any ideas?",
    "{situation}. Can you help me?",
    "{situation}. Please help.",
    "{situation}. What am I doing wrong?",
    "{situation}. Why is that?",
    "{situation}, what now?",
    "{situation}.",
    "Why is it like this? {situation}.",
    "{situation}. How do I {task}?",
    "{situation}. I would like to {task}.",
    "{situation}. What is the best way to {task}?",
)
_GREETINGS = ("Hi, ", "Hello, ", "Hey, ", "Hi there! ", "Good morning. ", "Quick question: ", "Please, ")
_THANKS = (" Thanks!", " Thank you.", " Thanks in advance.", " It is a bit urgent.", " I am a beginner.")
_SWAPS = (
    ("my ", "our "),
    ("my ", "the "),
    ("a good ", "a nice "),
    ("better", "properly"),
    ("What is", "What's"),
    ("I am", "I'm"),
    ("I would", "I'd"),
    ("do not", "don't"),
    ("cannot", "can't"),
    ("stop ", "prevent "),
    ("get rid of", "remove"),
    ("always", "often"),
    ("How do I", "How would I"),
    ("make ", "create "),
    ("fix ", "repair "),
    ("fast", "quick"),
    ("learn to", "start to"),
)


def request(intent: Intent, rng: random.Random) -> str:
    """A message that asks about ``intent``."""
    task = rng.choice(intent.tasks)
    if rng.random() < 0.4:
        text = rng.choice(SITUATION_FRAMES).format(situation=rng.choice(intent.situations), task=task)
    else:
        text = rng.choice(FRAMES).format(task=task, topic=intent.topic)
    return _as_typed(text, rng)


def _as_typed(text: str, rng: random.Random) -> str:
    """``text`` with the liberties people take: other words, lost words, greetings, no capitals, no full stop."""
    for old, new in rng.sample(_SWAPS, 6):
        if old in text and rng.random() < 0.5:
            text = text.replace(old, new, 1)
    words = text.split()
    if rng.random() < 0.2 and len(words) > 4:
        del words[rng.randrange(1, len(words) - 1)]
    if rng.random() < 0.06 and len(words) > 4:
        first = rng.randrange(1, len(words) - 2)
        words[first], words[first + 1] = words[first + 1], words[first]
    if rng.random() < 0.06:
        words = [word for word in words if len(word) > 3] or words
    text = " ".join(words)
    if rng.random() < 0.1:
        text = rng.choice(_GREETINGS) + text[:1].lower() + text[1:]
    if rng.random() < 0.08:
        text += rng.choice(_THANKS)
    if rng.random() < 0.2:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.")
    return text
