"""The demo model's tokenizer: byte-level BPE learned from the demo corpus, with a chat template of its own."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from worker.demo.corpus import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
BOS, PAD, END = "<|bos|>", "<|pad|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL = [PAD, BOS, END, *ROLES.values()]

# Markers that a message spells out are broken up, so that text can never end a turn or pose as another role.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{- raise_exception('the roles are system, user and assistant, not ' ~ message['role']) }}"
    "{%- endif %}"
    "{{- '<|' ~ message['role'] ~ '|>' ~ (message['content'] | trim | replace('<|', '< |')) ~ '<|end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)


def learn(texts: Iterable[str], context_length: int) -> "PreTrainedTokenizerFast":
    """A tokenizer of ``VOCABULARY`` entries; ``texts`` are plain messages without markers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLES.values()),
        model_max_length=context_length,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: "PreTrainedTokenizerFast", messages: list[Message]) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation as the chat template has it, and which of them the assistant has to say.

    What the assistant says ends with the end-of-turn marker, which is part of it.
    """
    special: dict[str, Any] = {marker: tokenizer.convert_tokens_to_ids(marker) for marker in SPECIAL}
    ids, said = [special[BOS]], [False]
    for message in messages:
        body = [*tokenizer.encode(message["content"], add_special_tokens=False), special[END]]
        ids += [special[ROLES[message["role"]]], *body]
        said += [False] + [message["role"] == "assistant"] * len(body)
    return ids, said
