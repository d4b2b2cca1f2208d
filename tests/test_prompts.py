"""What may be passed as a prompt, and how it becomes text, tokens and bias."""

from __future__ import annotations

import math

import pytest
import tiny
from transformers import PreTrainedTokenizerFast

from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.prompts import as_list, prompt_text, tokenize
from pasta_chains.spans import Span, SpanStr, emphasize

CHAT = [{"role": "user", "content": SpanStr(" Who is the mayor? ", [(8, 18)])}]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.mark.parametrize(
    ("given", "prompts", "is_list"),
    [
        ("a", ["a"], False),
        ("", [""], False),
        (SpanStr("a"), ["a"], False),
        (CHAT, [CHAT], False),
        (["a", "b"], ["a", "b"], True),
        (("a",), ["a"], True),
        ([CHAT], [CHAT], True),
        (["a", CHAT], ["a", CHAT], True),
        ([], [], True),
    ],
)
def test_one_prompt_is_told_from_a_list(given: object, prompts: list, is_list: bool) -> None:
    assert as_list(given) == (prompts, is_list)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "A prompt is a text or a list of chat messages, not NoneType"),
        (3, "not int"),
        (CHAT[0], "not dict"),
        (iter(["a"]), "not list_iterator"),
        (["a", 3], "Prompt 1 of the list is 3"),
        (["a", CHAT[0]], "Prompt 1 of the list is {'role'"),
        ([CHAT[0], "a"], "Prompt 0 of the list is {'role'"),
        ([["a"]], r"Prompt 0 of the list is \['a'\]"),
        ([[]], r"Prompt 0 of the list is \[\]"),
        (b"ab", "Prompt 0 of the list is 97"),
    ],
)
def test_other_kinds_are_refused(given: object, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        as_list(given)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("given", [None, 3, [], ["a"], [CHAT], CHAT[0]])
def test_something_else_than_one_prompt_is_not_tokenized(
    given: object, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(PromptError, match="A prompt is a text or a list of chat messages, not"):
        tokenize(given, tokenizer, 0.1)  # type: ignore[arg-type]  # wrong on purpose


def test_a_text_gets_the_special_tokens_and_a_chat_brings_its_own(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    bos = tokenizer.bos_token_id
    assert tokenize("Tarn", tokenizer, 0.1).ids == [bos, *tokenizer.encode("Tarn")[1:]]
    chat = tokenize(CHAT, tokenizer, 0.1)
    assert chat.text == "<s><user>Who is the mayor?</s><assistant>"
    assert chat.text.emphasized() == ("the mayor?",)
    assert chat.ids.count(bos) == 1
    assert tokenizer.decode(chat.ids) == chat.text


def test_bias_is_0_on_the_emphasis_and_log_alpha_elsewhere(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    prompt = tokenize(CHAT, tokenizer, 0.1)
    assert len(prompt.bias) == len(prompt.ids)
    assert {round(bias, 9) for bias in prompt.bias} == {0.0, round(math.log(0.1), 9)}
    marked = [i for i, bias in zip(prompt.ids, prompt.bias, strict=True) if not bias]
    assert tokenizer.decode(marked) == " the mayor?"


@pytest.mark.parametrize(
    ("spans", "alpha", "is_steered"),
    [
        ([], 0.1, False),
        ([Span(0, 4)], 0.1, True),
        ([Span(0, 4)], 1.0, False),
        ([Span(0, 4, 1.0)], 0.1, False),
        ([Span(0, 4, 0.5)], 1.0, True),
    ],
)
def test_a_prompt_is_steered_when_a_weight_differs(
    spans: list[Span], alpha: float, is_steered: bool, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert tokenize(SpanStr("Tarn is", spans), tokenizer, alpha).is_steered is is_steered


def test_a_span_of_white_space_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(EmphasisError, match="covers no token"):
        tokenize(SpanStr("a  b", [(1, 3)]), tokenizer, 0.1)
    with pytest.raises(PromptError, match="kept 0 of 1"):  # the template trims it away
        tokenize([{"role": "user", "content": SpanStr("a ", [(1, 2)])}], tokenizer, 0.1)


def test_half_a_character_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(PromptError, match=r"Character 1 of the prompt is '\\ud83d'"):
        tokenize("a\ud83d", tokenizer, 0.1)
    with pytest.raises(PromptError, match=r"Character 12 of the prompt is '\\ud83d'"):
        tokenize([{"role": "user", "content": "a</\ud83d"}], tokenizer, 0.1)


def test_a_prompt_without_a_token_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenize("", tokenizer, 0.1).ids == [tokenizer.bos_token_id]
    bare = tiny.tokenizer()
    bare._tokenizer.post_processor = None
    with pytest.raises(PromptError, match="The prompt is empty"):
        tokenize("", bare, 0.1)


def test_without_a_chat_template_a_chat_is_an_error() -> None:
    bare = tiny.tokenizer()
    bare.chat_template = None
    with pytest.raises(PromptError, match="has no chat template"):
        prompt_text(CHAT, bare)


def test_a_template_that_renders_otherwise_in_transformers_is_an_error() -> None:
    other = tiny.tokenizer()
    other.chat_template = "{{ messages[0].content }}{{ tokenizer_only | default('here') }}"
    apply = other.apply_chat_template
    other.apply_chat_template = lambda *a, **k: apply(*a, **k, tokenizer_only="there")  # type: ignore[method-assign]  # another template on purpose
    with pytest.raises(PromptError, match="renders another text here than in transformers"):
        prompt_text([{"role": "user", "content": emphasize("a")}], other)


def test_a_tokenizer_with_named_templates_uses_its_default() -> None:
    named = tiny.tokenizer()
    named.chat_template = {"default": "<{{ messages[0].content }}>", "tool_use": "no"}
    assert prompt_text(CHAT, named).text == "< Who is the mayor? >"
