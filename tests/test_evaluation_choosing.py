"""The likeliest of some texts, as the paper's rule and a slow loop find it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import TaskError
from pasta_chains.evaluation.asking import NOTHING, ask
from pasta_chains.evaluation.choosing import choose, option_tokens, options_after
from pasta_chains.evaluation.rewriting import with_emphasis, without_emphasis
from pasta_chains.evaluation.task import Sample, Task
from pasta_chains.profile import HeadProfile
from pasta_chains.prompts import Prompt, TokenizedPrompt, tokenize
from pasta_chains.spans import Span, SpanStr, emphasize

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. The mayor is"
PROMPTS = [
    SpanStr(TEXT, [Span(31, 61)]),
    SpanStr(TEXT, [Span(0, 30)]),
    SpanStr(TEXT[31:], [Span(0, 12)]),
    SpanStr("Who is the mayor? ") + emphasize("Answer"),
]
PROFILE = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Like that of Llama 2, whose tokens never go from one word into another."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    special = ["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False)
    made.train_from_iterator(["Ada Lowe is a nurse. Bo Marsh is a nurse. Ada Lowe"], trainer)
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def chosen(
    model: SteeredModel,
    prompts: Sequence[Prompt],
    options: tuple[str, ...],
    *,
    batch_size: int = 16,
    is_steered: bool = True,
) -> list[str]:
    samples = tuple(Sample(str(i), (one,), options[0], options) for i, one in enumerate(prompts))
    task = Task("choice", samples, ("Acc",), lambda *_: {"Acc": 1.0})
    rewrite, profile = (with_emphasis, PROFILE) if is_steered else (without_emphasis, NOTHING)
    asked = ask(model, task, samples, rewrite, profile, batch_size=batch_size)
    found = {sample.id: answer for sample, (answer,) in asked}
    return [found[sample.id] for sample in samples]


def logits_after(model: SteeredModel, prompt: Prompt, ids: list[int]) -> torch.Tensor:
    """Of the next token, read with a pass of its own."""
    inputs = model.inputs(prompt)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids]).long()], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        found: torch.Tensor = model.model(**inputs, use_cache=False).logits[0, -1].float()
    return found


def slowly(model: SteeredModel, prompt: Prompt, options: dict[str, list[int]]) -> str:
    """The rule in words: compare what comes first; of those that share it, what comes next."""
    place = 0
    while len(options) > 1:
        logits = logits_after(model, prompt, next(iter(options.values()))[:place])
        ended = [name for name, ids in options.items() if len(ids) == place]
        best = max(
            {ids[place] for ids in options.values() if len(ids) > place}, key=logits.__getitem__
        )
        if ended and int(logits.argmax()) != best:
            return ended[0]
        options = {name: ids for name, ids in options.items() if ids[place : place + 1] == [best]}
        place += 1
    return next(iter(options))


@pytest.mark.parametrize("is_steered", [True, False])
def test_the_likeliest_first_token_decides(steered: SteeredModel, is_steered: bool) -> None:
    options = ("Ada", "Bo", "mayor", "Tarn", "nurse")
    first = [ids[0] for ids in option_tokens(steered.tokenizer, options)]
    assert len(set(first)) == len(options)
    expected = []
    for prompt in PROMPTS:
        logits = logits_after(steered, prompt if is_steered else prompt.text, [])
        expected.append(options[int(logits[first].argmax())])
    assert chosen(steered, PROMPTS, options, is_steered=is_steered) == expected


def test_emphasis_can_change_what_is_chosen(steered: SteeredModel) -> None:
    vocabulary = [steered.tokenizer.decode([token]) for token in range(3, 360)]
    words = [word[1:] for word in vocabulary if word[0] == " " and word[1:].isalpha()]
    several = tuple(word for word in words if len(option_tokens(steered.tokenizer, [word])[0]) == 1)
    assert len(several) > 20
    with_it = chosen(steered, PROMPTS, several)
    assert with_it != chosen(steered, PROMPTS, several, is_steered=False)


@pytest.mark.parametrize(
    "options",
    [
        ("Ada", "Bo", "Marsh", "mayor"),
        ("Ada Lowe", "Ada Marsh", "Ada Tarn"),  # they share the first token
    ],
)
def test_scores_say_the_same(steered: SteeredModel, options: tuple[str, ...]) -> None:
    """Where options differ in one token only, their log-probabilities do."""
    expected = []
    for prompt in PROMPTS:
        scores = steered.score(prompt, [f" {option}" for option in options])
        expected.append(options[scores.index(max(scores))])
    for batch_size in (1, 3, 16):
        assert chosen(steered, PROMPTS, options, batch_size=batch_size) == expected


@pytest.mark.parametrize(
    "options",
    [
        ("Ada Lowe", "Ada Marsh", "Bo Lowe", "Bo Marsh", "Tarn"),
        ("Ada", "Ada Lowe", "Ada Lowe is", "Bo"),  # one begins another
        ("nurse", "nun", "night", "an", "and"),
        ("é", "è", "🙂", "👍"),  # bytes
    ],
)
def test_a_slow_loop_says_the_same(steered: SteeredModel, options: tuple[str, ...]) -> None:
    tokens = dict(zip(options, option_tokens(steered.tokenizer, options), strict=True))
    expected = [slowly(steered, prompt, dict(tokens)) for prompt in PROMPTS]
    assert chosen(steered, PROMPTS, options) == expected


def fixed(*rows: dict[int, float]) -> tuple[Callable[..., torch.Tensor], list[list[int]]]:
    """A model that has these logits, step by step, and what it was asked."""
    asked: list[list[int]] = []

    def next_logits(prompts: Sequence[TokenizedPrompt]) -> torch.Tensor:
        logits = torch.zeros(1, 9)
        for token, logit in rows[len(asked)].items():
            logits[0, token] = logit
        asked.append(prompts[0].ids)
        return logits

    return next_logits, asked


READ = TokenizedPrompt(SpanStr("x"), [8], [0.0])


@pytest.mark.parametrize(
    ("options", "rows", "number", "read"),
    [
        ([[1], [2], [3]], [{2: 1.0}], 1, [[8]]),
        ([[1], [2], [3]], [{}], 2, [[8]]),  # ties go to the last
        ([[1], [2], [3]], [{1: 1.0, 2: 1.0}], 1, [[8]]),
        ([[3], [2], [1]], [{}], 2, [[8]]),  # the last in the list, not the last token
        ([[1, 2], [1, 3]], [{2: 1.0}], 0, [[8, 1]]),  # nothing to decide at first
        ([[1, 2], [1, 3], [4]], [{1: 2.0, 4: 1.0}, {3: 1.0}], 1, [[8], [8, 1]]),
        ([[1, 2], [4], [1, 3]], [{1: 1.0, 4: 2.0}], 1, [[8]]),
        ([[1], [1, 2]], [{5: 1.0}], 0, [[8, 1]]),  # it would go on otherwise
        ([[1], [1, 2]], [{2: 1.0}], 1, [[8, 1]]),
        ([[1, 2, 3], [1]], [{2: 1.0}], 0, [[8, 1]]),
        ([[1], [1, 2], [1, 3]], [{2: 1.0, 5: 2.0}], 0, [[8, 1]]),
        ([[1], [1, 2, 4], [1, 2, 5]], [{2: 1.0}, {4: 1.0}], 1, [[8, 1], [8, 1, 2]]),
        ([[1], [1, 2], [1, 2, 3]], [{2: 1.0}, {4: 1.0}], 1, [[8, 1], [8, 1, 2]]),
    ],
)
def test_what_is_read_and_chosen(
    options: list[list[int]], rows: list[dict[int, float]], number: int, read: list[list[int]]
) -> None:
    next_logits, asked = fixed(*rows)
    assert choose([READ], [options], next_logits) == [number]
    assert asked == read


def test_what_was_chosen_is_read_without_a_bias() -> None:
    seen = []

    def next_logits(prompts: Sequence[TokenizedPrompt]) -> torch.Tensor:
        seen.extend(prompts)
        return torch.zeros(len(prompts), 9)

    choose([TokenizedPrompt(SpanStr("x"), [8], [-2.0])], [[[1, 2], [1, 3]]], next_logits)
    assert seen[0].bias == [-2.0, 0.0]


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=2, unique_by=tuple))
@settings(deadline=None)
def test_one_of_the_options_is_chosen_whatever_they_share(options: list[list[int]]) -> None:
    def next_logits(prompts: Sequence[TokenizedPrompt]) -> torch.Tensor:
        seeds = [sum(prompt.ids) for prompt in prompts]
        return torch.stack(
            [torch.rand(9, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )

    (number,) = choose([READ], [options], next_logits)
    first = [ids[0] for ids in options]
    best = max(first, key=next_logits([READ])[0].__getitem__)
    assert options[number][0] == best


def decoded(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return "".join(tokenizer.convert_ids_to_tokens(ids))


def test_options_begin_with_a_space_in_a_byte_level_bpe() -> None:
    tokenizer = tiny.tokenizer()
    assert [decoded(tokenizer, ids) for ids in option_tokens(tokenizer, ["Ada", "nurse"])] == [
        "ĠAda",
        "Ġnurse",
    ]
    (ada,) = option_tokens(tokenizer, ["Ada"])
    assert ada == tokenizer(" Ada", add_special_tokens=False)["input_ids"]
    assert ada == tokenizer("is Ada", add_special_tokens=False)["input_ids"][-1:]


def test_options_begin_with_one_space_only_in_a_metaspace_bpe() -> None:
    tokenizer = llama_tokenizer()
    found = option_tokens(tokenizer, ["Ada", "nurse"])
    assert [decoded(tokenizer, ids) for ids in found] == ["▁Ada", "▁nurse"]
    assert tokenizer("Bo is a nurse")["input_ids"][-len(found[1]) :] == found[1]


@pytest.mark.parametrize("made", [tiny.tokenizer, llama_tokenizer])
def test_after_white_space_options_begin_without_one(
    made: Callable[[], PreTrainedTokenizerFast],
) -> None:
    tokenizer = made()
    found = option_tokens(tokenizer, ["Ada", "nurse"], after_space=True)
    assert [decoded(tokenizer, ids) for ids in found] == ["Ada", "nurse"]
    ids = tokenizer("Answer:\nnurse", add_special_tokens=False)["input_ids"]
    assert ids[-len(found[1]) :] == found[1]


def test_whether_a_space_comes_first_is_decided_for_each_prompt() -> None:
    tokenizer = tiny.tokenizer()
    chat = [{"role": "user", "content": "Who?"}]
    texts = ["Who is it? It is", "Who?\n", "Who? ", chat]
    read = [tokenize(text, tokenizer, 1.0) for text in texts]
    found = options_after(tokenizer, read, [["Ada", "Bo"]] * 4)
    firsts = [decoded(tokenizer, ids[0]) for ids in found]
    assert firsts == ["ĠAda", "Ada", "Ada", "ĠAda"], "the chat template ends with a role marker"
    tokenizer.chat_template += "{{ '\n' if add_generation_prompt }}"
    (spaced,) = options_after(tokenizer, [tokenize(chat, tokenizer, 1.0)], [["Ada", "Bo"]])
    assert decoded(tokenizer, spaced[0]) == "Ada"


def test_white_space_around_options_does_not_count() -> None:
    tokenizer = tiny.tokenizer()
    assert option_tokens(tokenizer, [" Ada", "Bo\n"]) == option_tokens(tokenizer, ["Ada", "Bo"])


def test_options_that_cannot_be_told_apart_are_refused() -> None:
    tokenizer = tiny.tokenizer()
    with pytest.raises(TaskError, match="'Ada' and ' Ada' with the same tokens"):
        option_tokens(tokenizer, ["Bo", "Ada", " Ada"])
    with pytest.raises(TaskError, match="joins the option 'Ada' with the word before it"):
        option_tokens(tiny.metaspace_tokenizer(), ["Ada", "Bo"])  # "a▁" is a token there
    with pytest.raises(TaskError, match="joins the option ''"):
        option_tokens(tokenizer, ["Ada", ""], after_space=True)


def test_the_answers_to_all_prompts_of_a_sample_stay_together(steered: SteeredModel) -> None:
    """Samples have several prompts, options of their own, and none; batches mix lengths."""
    pairs = [("Ada", "Bo"), ("Tarn", "mayor", "Marsh")]
    samples = [
        Sample("0", tuple(PROMPTS), "Ada", pairs[0]),
        Sample("1", (PROMPTS[3],), "Tarn", pairs[1]),
        Sample("2", (PROMPTS[3], PROMPTS[0]), "any"),
        Sample("3", (PROMPTS[2], PROMPTS[1]), "Ada", pairs[1]),
    ]
    task = Task("mixed", tuple(samples), ("Acc",), lambda *_: {"Acc": 1.0}, max_new_tokens=5)
    for batch_size in (1, 2, 5, 50):
        found = {
            sample.id: answers
            for sample, answers in ask(
                steered, task, samples, with_emphasis, PROFILE, batch_size=batch_size
            )
        }
        assert found["0"] == tuple(chosen(steered, PROMPTS, pairs[0]))
        assert found["1"] == tuple(chosen(steered, [PROMPTS[3]], pairs[1]))
        assert found["3"] == tuple(chosen(steered, [PROMPTS[2], PROMPTS[1]], pairs[1]))
        written = [steered.generate(one, max_new_tokens=5) for one in samples[2].prompts]
        assert found["2"] == tuple(written)
