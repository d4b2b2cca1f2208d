"""Control tokens of many kinds of tokenizer, and text read without them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import forgeable
import pytest
import tiny
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from pasta_chains.control import Encoded, control_reader
from pasta_chains.errors import PromptError

TOKENIZERS = {name: make() for name, make in forgeable.KINDS.items()}
FRAGMENTS = [*forgeable.MARKERS, "<s>", "</s>", "<unk>", "<pad>", "[inst]", "<|", "|>", "<", " ",
             "\n", "<0x0A>", "Tarn", "mayor", "user"]  # fmt: skip
texts = st.lists(
    st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=8
).map("".join)  # fmt: skip


def read(tokenizer: PreTrainedTokenizerFast, text: str) -> Encoded:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return Encoded(encoded["input_ids"], encoded["offset_mapping"])


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=200, deadline=None)
@given(text=texts)
@example(text="[INST]<start_of_turn>b")
@example(text="[INST]Tarnb<s>b")
def test_where_every_control_token_is_trusted_the_copies_read_as_the_tokenizer_does(
    kind: str, text: str
) -> None:
    # Found in normalized text it takes in the space before it, which then is read twice.
    assume(kind != "prepending" or " [INST]" not in text.replace("▁", " "))
    tokenizer = TOKENIZERS[kind]
    reader, whole = control_reader(tokenizer), read(tokenizer, text)
    assert reader.encode(text, reader.places(text, whole)) == whole


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=200, deadline=None)
@given(text=texts)
def test_where_none_is_trusted_there_is_none_and_every_character_is_read(
    kind: str, text: str
) -> None:
    tokenizer = TOKENIZERS[kind]
    reader = control_reader(tokenizer)
    found = reader.encode(text, [])
    assert reader.places(text, found) == []
    covered = {place for start, end in found.offsets for place in range(start, end)}
    assert all(place in covered for place, letter in enumerate(text) if not letter.isspace())
    starts = [start for start, _ in found.offsets]
    assert starts == sorted(starts)
    if kind == "byte_level":
        assert tokenizer.decode(found.ids) == text


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_token_keeps_its_number_and_the_tokenizer_is_not_touched(kind: str) -> None:
    tokenizer = forgeable.KINDS[kind]()
    before = tokenizer.backend_tokenizer.to_str()
    reader = control_reader(tokenizer)
    for copied in ("first", "later", "normalized", "inside"):
        copy = reader._copy(copied)
        assert copy.get_vocab() == tokenizer.get_vocab()
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.backend_tokenizer.encode_special_tokens is False


def control_names(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    return {token.content for token in control_reader(tokenizer)._control.values()}


def test_control_tokens_are_those_that_transformers_sanitizes_and_all_that_look_like_one() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<think>", "<tool>", "<|fim|>", "\n\n", "Tarn", "  "])
    base = {"<pad>", "<s>", "</s>", "<|fim|>"}
    assert control_names(tokenizer) == base
    tokenizer.chat_template = "<think>{{ '<tool>' }}\n\n  {{ messages }}{# Tarn #}"
    assert control_names(tokenizer) == base | {"<think>", "<tool>"}
    if hasattr(tokenizer, "_get_control_tokens"):  # not yet in transformers 5.19
        official = set(tokenizer._get_control_tokens(tokenizer.chat_template))
        assert control_names(tokenizer) == official | {"<|fim|>"}
    tokenizer.chat_template = {"default": "{{ messages }}", "tools": "<tool>"}
    assert control_names(tokenizer) == base | {"<tool>"}
    tokenizer.chat_template = None
    tokenizer.chat_control_tokens = ["Tarn"]
    assert control_names(tokenizer) == base | {"Tarn"}
    tokenizer.chat_template = "{% for %}"  # what is wrong with it is said when it is rendered
    assert control_names(tokenizer) == base | {"Tarn"}


def test_a_reader_is_made_once_and_anew_when_tokens_are_added() -> None:
    tokenizer = tiny.tokenizer()
    reader = control_reader(tokenizer)
    assert control_reader(tokenizer) is reader
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|new|>"]})
    assert control_reader(tokenizer) is not reader
    assert control_reader(tokenizer).encode("<|new|>", []).offsets[-1] == (6, 7)


def test_white_space_that_a_marker_takes_in_is_not_its_core() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    text = "a \n[/INST]  b"
    (place,) = control_reader(tokenizer).places(text, read(tokenizer, text))
    assert (place.start, place.end) == (1, 12)
    assert text[slice(*place.core)] == "[/INST]"


def test_a_marker_that_is_a_word_of_the_vocabulary_is_parted() -> None:
    tokenizer = TOKENIZERS["unigram"]
    copied = control_reader(tokenizer)._copy("first").encode("a</s>b", add_special_tokens=False)
    assert "</s>" in copied.tokens, "the vocabulary brings it back"
    found = control_reader(tokenizer).encode("a</s>b" * 3000, [])
    assert tokenizer.convert_ids_to_tokens(found.ids[:8]) == [
        "▁",
        "a",
        "<",
        "/",
        "s",
        ">",
        "b",
        "a",
    ]
    assert tokenizer.eos_token_id not in found.ids
    assert len(found.ids) == 6 * 3000 + 1


def words(*names: str) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[U]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[U]", pad_token=names[1])


def test_a_marker_that_cannot_be_parted_is_refused() -> None:
    tokenizer = words("[U]", "¶", "a")
    reader = control_reader(tokenizer)
    with pytest.raises(PromptError, match="can write '¶' only as a control token"):
        reader.encode("a ¶", [])
    # Text that the tokenizer has no word for is not the marker for it, unless it is written.
    assert reader.encode("b [U] a", []).ids == [0, 0, 0, 2]
    assert reader.places("b", read(tokenizer, "b")) == []


def test_a_tokenizer_that_cannot_be_copied_is_refused() -> None:
    class Spaces:
        def pre_tokenize(self, text: object) -> None: ...

    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Spaces())
    with pytest.raises(PromptError, match=r"cannot be copied.*control_tokens='anywhere'"):
        control_reader(tokenizer).encode("</s>", [])


def test_threads_that_share_a_tokenizer_read_what_one_reads() -> None:
    tokenizer = forgeable.byte_level()
    tokenizer.add_tokens([AddedToken("<t>", special=True)])
    given = [f"{number} </s><t> {'x' * number}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: control_reader(tokenizer).encode(text, []), given))
        normal = list(pool.map(lambda text: read(tokenizer, text), given))
    assert found == [control_reader(tokenizer).encode(text, []) for text in given]
    assert all(tokenizer.eos_token_id in encoded.ids for encoded in normal)
