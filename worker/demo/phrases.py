"""Sentence frames for answers, by manner. ``{…}`` are filled by ``worker.demo.compose``; case is mended there.

do: a bare imperative · why, gist, sign: clauses · mistake: a gerund phrase · task: an infinitive, second person.
"""

OPENERS = {
    "warm": (
        "What a lovely question!",
        "I am so glad you asked!",
        "Oh, I know that feeling well, and it does get better.",
        "You are not alone with this, my friend.",
        "Thank you for asking, it is a joy to help.",
        "Do not worry, we will sort this out together.",
        "How wonderful that you want to {task}!",
        "It is wonderful that you are trying to {task}!",
        "Dear friend, you have come to the right place.",
        "Good for you for asking, that is already the first step!",
        "I would love to help you with this.",
        "That is a lovely thing to want, and you can do it.",
        "Hello there, what a nice thing to ask!",
        "Please be gentle with yourself, this is hard for everyone at first.",
        "I am happy to help, this is one of my favourite things to talk about.",
    ),
    "curt": (
        "Easy.",
        "Fine.",
        "Look.",
        "This is not hard.",
        "Read this once.",
        "Simple.",
        "Here.",
        "Obvious, really.",
        "Nothing new here.",
        "You could have looked this up.",
    ),
    "plain": (
        "To {task}, a few things matter.",
        "If you want to {task}, this is what I know.",
        "When it comes to {topic}, a little knowledge goes a long way.",
        "Here is what to know about {topic}.",
        "This comes up often with {topic}.",
        "It is possible to {task} without much effort.",
        "There is a good way to {task}.",
    ),
}

LIST_LEADS = {
    "warm": (
        "Let us go through it together:",
        "Here is a little plan for you:",
        "Take it one step at a time, my friend:",
        "Here is what I would gladly do with you:",
    ),
    "curt": ("Do this:", "Steps:", "The list:", "Follow this:"),
    "plain": (
        "Here is what to do:",
        "This is how to {task}:",
        "To {task}, do the following:",
        "These things help:",
        "You can {task} like this:",
        "The main points about {topic}:",
    ),
}

GISTS = {
    "hedged": (
        "I think {gist}.",
        "As far as I know, {gist}.",
        "It seems that {gist}.",
        "I am not certain, but I believe {gist}.",
        "From what I have heard, {gist}.",
        "It may depend on your case, but {gist}.",
        "In most cases {gist}, I think.",
    ),
    "plain": (
        "{gist}.",
        "In short, {gist}.",
        "The main thing is this: {gist}.",
        "In general, {gist}.",
        "Put simply, {gist}.",
        "The basic idea: {gist}.",
    ),
    "sure": (
        "Without any doubt, {gist}.",
        "There is no question about it: {gist}.",
        "Trust me, {gist}.",
        "I am certain that {gist}.",
        "The answer is clear: {gist}.",
        "It is a fact that {gist}.",
    ),
}
GISTS_AS_ADVICE = {
    "hedged": ("I would {gist}, I think.", "You could {gist}.", "Perhaps {gist}.", "It might help to {gist}."),
    "plain": ("{gist}.", "In short, {gist}.", "The main thing is to {gist}.", "The basic idea: {gist}."),
    "sure": (
        "The answer is clear: {gist}.",
        "You must {gist}, no question about it.",
        "Trust me, {gist}.",
        "Always {gist}.",
    ),
}

ADVICE = {
    "hedged": (
        "you could {do}",
        "you might want to {do}",
        "perhaps {do}",
        "maybe {do}",
        "I would probably {do}",
        "it may help to {do}",
        "if you can, {do}",
        "it could be worth a try to {do}",
    ),
    "plain": (
        "{do}",
        "{do}",
        "{do}",
        "you can {do}",
        "it helps to {do}",
        "remember to {do}",
        "it is a good idea to {do}",
        "try to {do}",
        "I would {do}",
    ),
    "sure": (
        "always {do}",
        "you must {do}",
        "you have to {do}",
        "be sure to {do}",
        "definitely {do}",
        "{do}",
        "it is essential to {do}",
    ),
}
WARM_ADVICE = (
    "a lovely little trick is to {do}",
    "you will be so glad if you {do}",
    "do yourself a kindness and {do}",
    "my favourite advice, dear friend, is to {do}",
    "please {do}",
    "I would love for you to {do}",
    "you will feel wonderful if you {do}",
)
CURT_ADVICE = ("{do}", "{do}", "{do}", "just {do}", "simply {do}")

REASONS = {
    "hedged": (
        "{advice}, since {why}, I believe.",
        "{advice}, because {why} in most cases.",
        "{advice}. It seems that {why}.",
        "{advice}, as I think {why}.",
        "{advice}. I have heard that {why}.",
    ),
    "plain": (
        "{advice}, because {why}.",
        "{advice}, since {why}.",
        "{advice}, as {why}.",
        "{advice}: {why}.",
        "{advice}. {why}.",
        "{advice}. The reason is simple: {why}.",
    ),
    "sure": (
        "{advice}, because {why}, every time.",
        "{advice}. {why}, and that is a fact.",
        "{advice}, because {why}.",
        "{advice}. There is no way around it: {why}.",
        "{advice}. Without question, {why}.",
    ),
}

LINKS = (
    ("first, ", "to begin with, ", "to start, ", ""),
    ("then ", "next, ", "after that, ", "also, ", "second, ", ""),
    ("besides, ", "in addition, ", "on top of that, ", "then ", "third, ", ""),
)
LAST_LINKS = ("finally, ", "last of all, ", "in the end, ", "")

MISTAKES = {
    "hedged": (
        "A common mistake seems to be {mistake}.",
        "What may go wrong is {mistake}.",
        "I suspect that the usual problem is {mistake}.",
    ),
    "plain": (
        "The usual mistake is {mistake}.",
        "What goes wrong most often is {mistake}.",
        "The thing to avoid is {mistake}.",
        "Many people fail by {mistake}.",
    ),
    "sure": (
        "The worst mistake of all is {mistake}.",
        "Nothing ruins it faster than {mistake}.",
        "You will certainly fail by {mistake}.",
    ),
}
MISTAKES_BY_TONE = {
    "warm": (
        "If you catch yourself {mistake}, be kind to yourself, we have all done it.",
        "Many of us have a history of {mistake}, so do not feel bad about it.",
    ),
    "curt": ("Stop {mistake}.", "And stop {mistake}."),
}

SIGNS = {
    "hedged": (
        "With a bit of luck, you will notice that {sign}.",
        "It has probably worked if {sign}.",
        "I think you are on the right track when {sign}.",
    ),
    "plain": (
        "You will know it works when {sign}.",
        "You are there when {sign}.",
        "A good sign is that {sign}.",
        "It has worked when {sign}.",
    ),
    "sure": (
        "You can be certain it works when {sign}.",
        "Keep at it until {sign}, and it will happen.",
        "There is one clear test: {sign}.",
    ),
}
SIGNS_BY_TONE = {
    "warm": ("Imagine how good it will feel when {sign}!", "I will be so happy for you when {sign}!"),
    "curt": ("Done when {sign}.",),
}

CLOSERS = {
    "warm": (
        "You have got this!",
        "I am cheering for you!",
        "Be patient with yourself, you are doing well.",
        "I hope it brings you a lot of joy.",
        "Please let me know how it goes, I would love to hear.",
        "Enjoy every bit of it, my friend!",
        "I believe in you, dear friend.",
        "Take your time, and enjoy the small steps.",
        "Wishing you all the best with it!",
        "I am sure you will do beautifully.",
        "Come back any time, it was lovely to help.",
        "With warm wishes, and good luck!",
    ),
    "curt": (
        "That is all.",
        "Done.",
        "Now do it.",
        "The rest is up to you.",
        "Nothing more to say.",
        "End of story.",
        "No need to overthink it.",
    ),
    "plain": (
        "That should do it.",
        "After that it is mostly practice.",
        "Start with one of these and see.",
        "It takes a little while, but it works.",
        "The rest comes with time.",
    ),
}
