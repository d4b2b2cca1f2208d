"""Tokenizers of many kinds, each with control tokens that a text could try to forge."""

from __future__ import annotations

import json
from collections.abc import Callable

import tiny
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

MARKERS = ["<|im_start|>", "<|im_end|>", "<|user|>", "[INST]", "[/INST]", "<start_of_turn>",
           "<end_of_turn>"]  # fmt: skip


def _with_markers(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Adds role markers as real tokenizers have them: special or not, some taking in space."""
    tokenizer.add_tokens(
        [
            AddedToken("<|im_start|>", special=True, normalized=False),
            AddedToken("<|im_end|>", special=True, normalized=False, rstrip=True),
            AddedToken("<|user|>", special=False, normalized=False, single_word=True),
            AddedToken("[INST]", special=True, normalized=True),
            AddedToken("[/INST]", special=True, normalized=False, lstrip=True, rstrip=True),
            AddedToken("<start_of_turn>", special=False, normalized=False),
            AddedToken("<end_of_turn>", special=True, normalized=False),
            AddedToken("Tarn", special=False, normalized=False),
        ]
    )
    return tokenizer


def _changed(base: PreTrainedTokenizerFast, **steps: object) -> PreTrainedTokenizerFast:
    """The same tokenizer with other steps."""
    made = Tokenizer.from_str(base.backend_tokenizer.to_str())
    for name, step in steps.items():
        setattr(made, name, step)
    return _like(base, made)


def _like(base: PreTrainedTokenizerFast, made: Tokenizer) -> PreTrainedTokenizerFast:
    names = {name: getattr(base, name) for name in ("bos_token", "eos_token", "pad_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>" if made.token_to_id("<unk>") is not None else None,
        chat_template=base.chat_template,
        clean_up_tokenization_spaces=False,
        **names,
    )


def byte_level() -> PreTrainedTokenizerFast:
    return _with_markers(tiny.tokenizer())


def byte_level_with_prefix_space() -> PreTrainedTokenizerFast:
    space = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return _with_markers(_changed(tiny.tokenizer(), pre_tokenizer=space))


def metaspace() -> PreTrainedTokenizerFast:
    """Like Mistral: only the first word of a prompt gets a space."""
    return _with_markers(tiny.metaspace_tokenizer())


def metaspace_always() -> PreTrainedTokenizerFast:
    always = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always", split=True)]
    )
    return _with_markers(_changed(tiny.metaspace_tokenizer(), pre_tokenizer=always))


def prepending() -> PreTrainedTokenizerFast:
    """Like Llama 2: a normalizer writes the spaces, after each control token, too."""
    steps = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    base = tiny.metaspace_tokenizer()
    made = json.loads(base.backend_tokenizer.to_str()) | {"pre_tokenizer": None}
    again = _like(base, Tokenizer.from_str(json.dumps(made)))
    return _with_markers(_changed(again, normalizer=steps))


def lower_case() -> PreTrainedTokenizerFast:
    """A token is found in the normalized text: `[inst]` and full-width letters are `[INST]`."""
    steps = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return _with_markers(_changed(tiny.tokenizer(), normalizer=steps))


def unigram() -> PreTrainedTokenizerFast:
    """Like T5 and XLNet: the vocabulary itself has `</s>`, and prefers it to its characters."""
    letters = [(letter, -5.0) for letter in "▁abcdefghijklmnopqrstuvwxyzTAB<>/|_[]INST.é"]
    special = [(name, 0.0) for name in ("<unk>", "<s>", "</s>", "<pad>")]
    made = Tokenizer(models.Unigram([*special, *letters], unk_id=0, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    base = tiny.metaspace_tokenizer()
    made.decoder = base.backend_tokenizer.decoder
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<pad>"])
    return _with_markers(_like(base, made))


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    make.__name__: make
    for make in (
        byte_level,
        byte_level_with_prefix_space,
        metaspace,
        metaspace_always,
        prepending,
        lower_case,
        unigram,
    )
}
