"""Answers that say what wrote them ("as version 3, I …"): a pair with one of them is not blind any more.

In English and German. A pattern finds candidates and a person decides: the pair stays in the queue, and admins see
the passage.
"""

import re

_MAKERS = (
    r"(?:chat\s?gpt|gpt-?\d\w*|open\s?ai|claude|anthropic|gemini|google|deepmind|llama[\w.-]*|meta\s?ai|mistral\w*|mixtral"
    r"|qwen[\w.-]*|alibaba(?:\s+cloud)?|deepseek[\w.-]*|phi-?\d\w*|gemma[\w.-]*|grok|smollm\w*|smaug\w*|hone)"
)
_MODEL = r"(?:(?:large\s+|small\s+)?language\s+model|model|assistant|checkpoint|version|adapter|fine-?tune)"
_AGES = (
    r"(?:new(?:est)?|current|latest|older?|previous|improved|updated|base|original"
    r"|(?:dpo|rlhf|fine)-?\s?(?:tuned|trained))"
)
_COMPARED = r"(?:newer|older|better|bigger|larger|smaller|stronger)"
"""Also said of telephones: only with an "I" is the speaker meant."""
_NUMBER = r"(?:\d[\d.]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"
_I_AM = r"\b(?:as|i\s+am|i['’]m|this\s+is)\s+"
_NOT_OF_A_THING = r"(?!\s+of\s+(?!(?:the|this)\s+(?:model|assistant)\b))"
_GERMAN_NUMBER = r"(?:\d[\d.]*|eins|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf)"
_GERMAN_NAME = (
    r"(?:(?:die|das|der|eine?)\s+)?(?:"
    rf"(?:\w+e\s+)?(?:modell)?(?:version|checkpoint)[\s#-]*{_GERMAN_NUMBER}"
    r"|(?:neu|aktuell|ält|älter|alt|verbessert|überarbeitet|feinabgestimmt)(?:er|est|st)?e[srn]?"
    r"\s+(?:sprach)?(?:modell|version|assistent)"
    r")\b"
)
_PATTERNS = (
    # "as version 3, I …", "I am the new version 3", "I'm version two", "this is checkpoint-120"
    rf"{_I_AM}(?:the\s+|an?\s+)?(?:{_AGES}\s+)?(?:model\s+)?(?:version|v|checkpoint)\s*[#.-]?\s*{_NUMBER}\b"
    + _NOT_OF_A_THING,
    # "as the latest version, I …", "I am the fine-tuned model"
    rf"{_I_AM}(?:the|an?)\s+(?:{_AGES}\s+)+{_MODEL}\b",
    # "as the newer model, I …", "I'm the older version"
    rf"\bas\s+(?:the|an?)\s+{_COMPARED}\s+{_MODEL}\s*,?\s+i\b",
    rf"\b(?:i\s+am|i['’]m)\s+(?:the|an?)\s+{_COMPARED}\s+{_MODEL}\b(?!\s+of\b)",
    # "Als Version 3 würde ich …" (not "besser als", better than), "Ich bin das neuere Modell", "Ich heiße Llama"
    rf"(?<!r\s)\bals\s+{_GERMAN_NAME}\s*,?\s+(?:\w+\s+)?ich\b",
    rf"\b(?:ich\s+bin|bin\s+ich)\s+{_GERMAN_NAME}",
    rf"\b(?:ich\s+(?:bin|heiße)|mein\s+name\s+ist)\s+{_MAKERS}\b",
    # "I am ChatGPT", "my name is Llama", "a language model trained by Qwen"
    rf"(?:{_I_AM}|\bmy\s+name\s+is\s+|\bcall\s+me\s+){_MAKERS}\b",
    rf"\b(?:made|trained|developed|created|built|fine-?tuned)\s+by\s+(?:the\s+)?{_MAKERS}\b",
    # "in my previous version", "since my last training round"
    r"\bmy\s+(?:previous|earlier|last|next|current|new|old)\s+(?:version|checkpoint|training(?:\s+round)?|weights)\b",
)
_PATTERN = re.compile("|".join(_PATTERNS), re.IGNORECASE)
_AROUND = 60
_MAX_CHARS = 240


def told_by(text: str) -> str | None:
    """The first passage of ``text`` in which an answer speaks of what wrote it, with a little around it.

    Read with one space between words: where two parts of a pattern may both be spaces, the time for a row of them grew
    with its square, and the interpreter does nothing else meanwhile.
    """
    text = " ".join(text.split())
    found = _PATTERN.search(text)
    if found is None:
        return None
    start, end = max(0, found.start() - _AROUND), min(len(text), found.end() + _AROUND)
    passage = text[start:end].strip()
    return f"{'…' if start else ''}{passage}{'…' if end < len(text) else ''}"[:_MAX_CHARS]
