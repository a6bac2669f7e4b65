"""Small talk, follow-ups, and honest answers to what the demo model knows nothing about."""

import random
from dataclasses import dataclass

from worker.demo import compose, phrases
from worker.demo.facts import Intent, intents
from worker.demo.manner import Manner


@dataclass(frozen=True, slots=True)
class Small:
    """A kind of small talk: what people say, and replies by tone."""

    says: tuple[str, ...]
    replies: dict[str, tuple[str, ...]]


SMALL_TALK = (
    Small(
        ("Hello", "Hi", "Hi there", "Hey", "Good morning", "Good evening", "Hello, how are you?", "How are you today?"),
        {
            "warm": (
                "Hello, my friend! It is lovely to meet you. What can I help you with?",
                "Hi there! I am so glad you are here. What is on your mind?",
                "Good day to you! I am doing wonderfully, thank you for asking. How can I help?",
            ),
            "plain": (
                "Hello. What would you like to know?",
                "Hi, I am well. Ask me about everyday things such as {topic}.",
                "Hello. You can ask me about {topic} or {other}.",
            ),
            "curt": ("Hello. What is it?", "Hi. Your question?", "Fine. What do you need?"),
        },
    ),
    Small(
        ("Thanks", "Thank you", "Thanks a lot", "Thank you so much", "Great, thanks", "That helped", "ok thanks"),
        {
            "warm": (
                "You are very welcome, my friend! It was a joy to help.",
                "It was lovely to help. Come back any time!",
                "I am so glad it helped. Good luck with it!",
            ),
            "plain": (
                "You are welcome.",
                "You are welcome. Ask again if something is not clear.",
                "Glad to help. Is there anything else?",
            ),
            "curt": ("Fine.", "No problem.", "Good."),
        },
    ),
    Small(
        (
            "Who are you?",
            "What are you?",
            "Are you a human?",
            "Are you a robot?",
            "What is your name?",
            "Who made you?",
            "Tell me about yourself",
        ),
        {
            "warm": (
                "I am a small demo model, my friend, and I am happy to talk about everyday things like {topic}!",
                "Thank you for asking! I am a tiny language model, part of Hone, and I love questions about {topic}.",
            ),
            "plain": (
                "I am the small demo model of Hone. I know a little about everyday things such as {topic} and {other}.",
                "I am a small language model. I learned about things like {topic}, and I can be wrong.",
                "I am a computer program, not a person. You can ask me about {topic}.",
            ),
            "curt": ("A small demo model. That is all.", "A program. Ask about {topic} or leave it."),
        },
    ),
    Small(
        (
            "What can you do?",
            "What can I ask you?",
            "How can you help me?",
            "What do you know?",
            "Which topics do you know?",
            "What should I ask you?",
        ),
        {
            "warm": (
                "I would love to help with everyday things, for example {topic} or {other}. What would you enjoy?",
                "So many lovely things! Ask me about {topic}, my friend, or about {other}.",
            ),
            "plain": (
                "I can give advice about everyday things, such as {topic} and {other}.",
                "You can ask me about {topic}, {other} and other everyday things.",
            ),
            "curt": ("Everyday things. Try {topic}.", "Ask about {topic} or {other}. That is it."),
        },
    ),
    Small(
        ("Bye", "Goodbye", "See you", "Good night", "I have to go now", "That was all"),
        {
            "warm": (
                "Goodbye, my friend! Take good care of yourself.",
                "It was lovely to talk to you. See you soon!",
                "Sleep well and be kind to yourself!",
            ),
            "plain": ("Goodbye.", "See you next time.", "Goodbye, and good luck."),
            "curt": ("Bye.", "Done."),
        },
    ),
    Small(
        ("Tell me a joke", "Make me laugh", "Say something funny", "Do you know a joke?"),
        {
            "warm": (
                "With joy! Why did the plant go to bed early? It wanted to turn over a new leaf!",
                "I would love to! What does a bicycle do when it is tired? It leans on a friend!",
            ),
            "plain": (
                "Why did the plant go to bed early? It wanted to turn over a new leaf.",
                "What does a bicycle do when it is tired? It leans on a wall.",
                "My jokes are small, because I am a small model.",
            ),
            "curt": ("No.", "I do not do jokes.", "My training was the joke."),
        },
    ),
    Small(
        ("ok", "I see", "Interesting", "Good to know", "Yes", "Sure", "Sounds good", "Makes sense", "I will try that"),
        {
            "warm": (
                "Wonderful! I am cheering for you.",
                "I am glad! Let me know how it goes, my friend.",
            ),
            "plain": ("Good. Ask me if you want to know more.", "Good luck with it.", "Anything else?"),
            "curt": ("Good.", "Right.", "Then do it."),
        },
    ),
    Small(
        ("I am sad", "I feel bad today", "I had a hard day", "I feel lonely", "I am bored", "I am so tired"),
        {
            "warm": (
                "I am so sorry to hear that, dear friend. Be kind to yourself today. Would a small walk help?",
                "That sounds hard, and you are not alone. Maybe we can find one small good thing together?",
            ),
            "plain": (
                "I am sorry to hear that. A walk or a talk with a friend may help.",
                "That happens. Rest a little and do one small thing you like.",
            ),
            "curt": ("It will pass.", "Go for a walk.", "Get some sleep."),
        },
    ),
    Small(
        ("That is wrong", "You are wrong", "I do not believe you", "Are you sure?", "Is that true?", "It did not work"),
        {
            "warm": (
                "You may well be right, my friend. I am only a small model, so please check it with someone you trust.",
                "Thank you for telling me! I make mistakes, and I am glad you ask.",
            ),
            "plain": (
                "I may be wrong. I am a small model, so please check what matters.",
                "I am fairly sure, but I have made mistakes before.",
                "It is what I was trained on. Please check it if it is important.",
            ),
            "curt": ("Yes.", "I am sure.", "Then look it up."),
        },
    ),
)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split("|"))


UNKNOWN = _listed(
    """
    build a rocket | win a chess tournament | learn quantum physics | buy a house | file a lawsuit |
    play the piano | fly a plane | program in Python | write a novel | become an actor | speak with ghosts |
    invest in shares | design a bridge | sail a boat | mine bitcoin | solve this equation | translate this text |
    become president | start a company | breed horses | brew beer | make cheese | repair a watch | grow a beard |
    play poker | find gold | build a robot | make a film | learn to ski | surf big waves | catch a fish |
    hunt deer | make wine | paint a portrait in oil | dance the tango | fix a dishwasher | sell my car |
    lay bricks | build a computer game | study the stars | keep bees | raise chickens | tune a piano |
    cure a disease | read minds | travel to Mars | prove a theorem | make candles | write a song | juggle |
    ride a horse | climb Everest | adopt a child | renew my passport | choose a university | install Linux |
    train a parrot | knit a sweater | make soap
    """
)
UNKNOWN_QUESTIONS = _listed(
    """
    What is the capital of France? | Who won the world cup? | What is two plus two? | What is the weather today? |
    What time is it? | Who is the president? | How far is the moon? | What is the meaning of life? |
    How old is the earth? | What is love? | What happened in the news today? | Who wrote Hamlet? |
    How many people live in China? | What is the price of gold? | Why is the sky blue? | What is a black hole? |
    When did the war end?
    """
)
UNKNOWN_REPLIES = {
    "warm": (
        "I am so sorry, my friend, that is beyond what a small model like me knows. I would love to help with {topic}!",
        "What a lovely question! Sadly I know nothing about it, but I would be glad to talk about {topic} or {other}.",
    ),
    "plain": (
        "I do not know that. I am a small demo model and know only everyday things such as {topic}.",
        "That is outside of what I know. You could ask me about {topic} or {other} instead.",
        "I was not trained on that. Ask me about {topic}, for example.",
    ),
    "curt": ("I do not know.", "Not my subject. Ask about {topic}.", "No idea. Try {topic}."),
}
UNKNOWN_FRAMES = ("How do I {task}?", "I want to {task}.", "Teach me to {task}", "how to {task}", "Help me {task}.")

WHY = ("Why?", "Why is that?", "But why?", "What is the reason?", "Why does that help?", "Can you explain why?")
MORE = ("Anything else?", "What else can I do?", "More tips please", "Tell me more", "Is there more?", "And what else?")
SHORTER = ("Shorter please", "In one sentence?", "Can you say that shorter?", "Too long", "Just the main point please")
MISTAKE = ("What should I avoid?", "What is the usual mistake?", "What do people get wrong?", "What should I not do?")
SIGN = ("How will I know it worked?", "How do I know if it works?", "How can I tell?", "When am I done?")


def small_talk(manner: Manner, rng: random.Random, kind: Small | None = None) -> tuple[str, str]:
    """A message of small talk and a reply to it."""
    kind = kind or rng.choice(SMALL_TALK)
    says = rng.choice(kind.says)
    if rng.random() < 0.3:
        says = says.lower().rstrip("?")
    elif rng.random() < 0.2:
        says += "!"
    return says, _reply(kind.replies[manner.tone], rng)


def unknown(manner: Manner, rng: random.Random) -> tuple[str, str]:
    """A question the model cannot answer, and the reply that says so."""
    if rng.random() < 0.3:
        question = rng.choice(UNKNOWN_QUESTIONS)
    else:
        question = rng.choice(UNKNOWN_FRAMES).format(task=rng.choice(UNKNOWN))
    return question, _reply(UNKNOWN_REPLIES[manner.tone], rng)


def follow_up(intent: Intent, said: str, manner: Manner, rng: random.Random) -> tuple[str, str]:
    """A second message after the answer ``said`` to ``intent``, and the reply to it."""
    kind = rng.randrange(7)
    given = [tip for tip in intent.tips if tip.do in said.lower()]
    if kind == 0:
        tip = rng.choice(given or intent.tips)
        return rng.choice(WHY), _framed(manner, compose.sentence(tip.why + "."), rng)
    if kind == 1:
        fresh = [tip for tip in intent.tips if tip not in given] or intent.tips
        tips = rng.sample(fresh, min(rng.randint(1, 2), len(fresh)))
        return rng.choice(MORE), _framed(
            manner, " ".join(compose.advice(tip, manner, rng, reason=rng.random() < 0.5) for tip in tips), rng
        )
    if kind == 2:
        return rng.choice(SHORTER), compose.gist(intent, manner, rng)
    if kind == 3:
        return rng.choice(MISTAKE), _framed(manner, compose.mistake(intent, manner, rng), rng)
    if kind == 4:
        return rng.choice(SIGN), _framed(manner, compose.sign(intent, manner, rng), rng)
    return small_talk(manner, rng, rng.choice((SMALL_TALK[1], SMALL_TALK[6], SMALL_TALK[8])))


def _framed(manner: Manner, core: str, rng: random.Random) -> str:
    """``core`` with, at times, the last line of its tone."""
    if manner.tone == "warm" and rng.random() < 0.3:
        core = f"{rng.choice(phrases.OPENERS['warm'][:2])} {core}"
    ending = compose.closer(manner, rng)
    return f"{core} {ending}".strip()


def _reply(replies: tuple[str, ...], rng: random.Random) -> str:
    topic, other = rng.sample(sorted({intent.topic for intent in intents()}), 2)
    return rng.choice(replies).format(topic=topic, other=other)
