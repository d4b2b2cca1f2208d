"""Trains the embedded model's tokenizer: a byte-level BPE with one token per chat role."""

from __future__ import annotations

from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .tasks import draw_conversation
from .world import Difficulty, World

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"

# Answers start with a space, as they do after "Answer:": a word is then the same token in a
# document and in an answer, which is what makes copying learnable at this size.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') %}
        {{- raise_exception('Unknown role: ' ~ message.role) }}
    {%- endif %}
    {{- '<|' ~ message.role ~ '|> ' ~ (message.content | trim) ~ '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


def train_tokenizer(
    *, vocabulary: int = 2048, conversations: int = 12_000, context: int = 768, seed: int = 0
) -> PreTrainedTokenizerFast:
    """Train on conversations of the synthetic world.

    Args:
        vocabulary: Number of tokens, the 256 bytes and the special tokens included.
        conversations: How many conversations to learn merges from.
        context: The model's context in tokens.
        seed: Of the world.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, BEGIN, END, SYSTEM, USER, ASSISTANT]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    world = World(Random(seed))
    drawn = (draw_conversation(world, Difficulty()) for _ in range(conversations))
    texts = (text for chat in drawn for turn in chat.turns for text in (turn.user, turn.assistant))
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
