"""`SteeredModel`: loading, generating, streaming, scoring, and nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import (
    EmphasisError,
    PastaError,
    ProfileError,
    PromptError,
    PromptTooLongError,
)
from pasta_chains.profile import HeadProfile
from pasta_chains.prompts import tokenize
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
FIRST = SpanStr(TEXT, [Span(0, 30)])
SECOND = SpanStr(TEXT, [Span(31, 61)])
BOTH = SpanStr(TEXT, [Span(21, 29), Span(52, 60, 0.5)])
SHORT = SpanStr("Tarn is small. Answer:", [Span(0, 4)])
CHAT = [{"role": "user", "content": SECOND}]
PROFILE = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
PROMPTS: list[Any] = [TEXT, FIRST, SECOND, BOTH, SHORT, CHAT, [{"role": "user", "content": "Hi"}]]


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(steered: SteeredModel) -> Any:
    def state() -> tuple[Any, ...]:
        model = steered.model
        modules = [sorted(vars(module)) for module in model.modules()]
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
        configs = (model.config.to_dict(), model.generation_config.to_dict())
        return (modules, hooks, *configs, sorted(vars(steered)), steered.profile, steered._heads)

    before = state()
    yield
    assert state() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "pasta-stream"]


def test_one_prompt_gives_a_text_and_a_list_a_list(steered: SteeredModel) -> None:
    texts = [steered.generate(prompt, max_new_tokens=6) for prompt in PROMPTS]
    assert all(type(text) is str for text in texts)
    assert len(set(texts[:4])) == 4, "emphasis decides the answer"
    assert steered.generate(PROMPTS[:1], max_new_tokens=6) == texts[:1]
    assert steered.generate([]) == []
    # A batch, padded and with other spans in each row, writes what each prompt does alone.
    assert steered.generate(PROMPTS, max_new_tokens=6) == texts


def test_a_batch_gives_each_row_the_log_probabilities_it_has_alone(steered: SteeredModel) -> None:
    batch = steered.inputs([SHORT, FIRST, TEXT, BOTH])
    assert batch["steering_bias"].shape == batch["input_ids"].shape
    assert batch["attention_mask"][0].tolist() == sorted(batch["attention_mask"][0].tolist())
    found = steered.model.generate(
        **batch, max_new_tokens=4, output_logits=True, return_dict_in_generate=True
    )
    for row, prompt in enumerate([SHORT, FIRST, TEXT, BOTH]):
        alone = steered.model.generate(
            **steered.inputs(prompt), max_new_tokens=4, output_logits=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        for one, many in zip(alone.logits, found.logits, strict=True):
            torch.testing.assert_close(many[row], one[0], atol=1e-4, rtol=1e-4)


def test_beam_search_steers_each_row_by_its_own_spans(steered: SteeredModel) -> None:
    prompts = [SHORT, FIRST, SECOND]
    beams = {"num_beams": 3, "max_new_tokens": 5, "length_penalty": 0.0}
    batch = steered.inputs(prompts)
    rows = steered.model.generate(**batch, **beams)[:, batch["input_ids"].shape[1] :]
    alone = []
    for prompt in prompts:
        inputs = steered.inputs(prompt)
        alone.append(steered.model.generate(**inputs, **beams)[0, inputs["input_ids"].shape[1] :])
    assert [row.tolist() for row in rows] == [row.tolist() for row in alone]
    assert rows[1].tolist() != rows[2].tolist()
    assert steered.generate(prompts, **beams) == steered.tokenizer.batch_decode(
        rows, skip_special_tokens=True
    )


def test_tokens_are_counted_and_the_end_is_told(steered: SteeredModel) -> None:
    first, second = steered.run([TEXT, SHORT], max_new_tokens=7)
    assert steered.run(TEXT, max_new_tokens=7) == [first]
    assert (first.new_tokens, first.finish_reason) == (7, "length")
    for found, prompt in ((first, TEXT), (second, SHORT)):
        assert found.prompt_tokens == steered.count_tokens(prompt)
        assert found.prompt_tokens == len(steered.tokenizer(str.__str__(prompt))["input_ids"])


@pytest.mark.parametrize("size", [1, 2])
def test_the_end_token_is_counted_and_the_padding_after_it_is_not(size: int) -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)
    new = steered.model.generate(**steered.inputs(TEXT), max_new_tokens=5)[0, -5:].tolist()
    steered.model.generation_config.eos_token_id = new[2]
    first = steered.run([TEXT, SHORT][:size], max_new_tokens=5)[0]
    assert first.new_tokens == new.index(new[2]) + 1
    assert first.finish_reason == "stop"


def test_a_stop_string_ends_the_text_before_it(steered: SteeredModel) -> None:
    whole = steered.generate(TEXT, max_new_tokens=20)
    stop = whole[9:12]
    cut = whole[: whole.index(stop)]
    for given in (stop, [stop], (stop, "never there")):
        (found,) = steered.run([TEXT], max_new_tokens=20, stop=given)
        assert found.text == cut
        assert found.finish_reason == "stop"
        assert found.new_tokens < 20
        assert "".join(steered.stream(TEXT, max_new_tokens=20, stop=given)) == cut
    assert steered.run([TEXT], max_new_tokens=20, stop=["never there"])[0].text == whole
    # A row that stopped early does not count the padding that follows it in a batch.
    batch = steered.run([TEXT, FIRST], max_new_tokens=20, stop=[stop])
    assert batch[0] == found
    assert batch[1].new_tokens == 20


def test_a_special_token_can_be_a_stop_string(steered: SteeredModel) -> None:
    stopped = steered.run(TEXT, max_new_tokens=8, stop="<s>", forced_eos_token_id=1)[0]
    assert stopped.finish_reason == "stop"
    assert "<s>" not in stopped.text


@pytest.mark.parametrize("stop", ["", [""], [None], [3]])
def test_an_impossible_stop_string_is_refused(steered: SteeredModel, stop: Any) -> None:
    with pytest.raises(PromptError, match="cannot end an answer"):
        steered.generate(TEXT, stop=stop)
    with pytest.raises(PromptError, match="cannot end an answer"):
        steered.stream(TEXT, stop=stop)


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_a_stream_is_the_generated_text(steered: SteeredModel, number: int) -> None:
    prompt = PROMPTS[number]
    pieces = list(steered.stream(prompt, max_new_tokens=12))
    assert "".join(pieces) == steered.generate(prompt, max_new_tokens=12)
    assert len(pieces) > 1


def test_a_stream_with_a_metaspace_tokenizer_keeps_each_space() -> None:
    for seed in range(4):
        steered = SteeredModel(tiny.llama(seed), tiny.metaspace_tokenizer(), PROFILE)
        text = steered.generate(SECOND, max_new_tokens=30)
        assert "".join(steered.stream(SECOND, max_new_tokens=30)) == text


def test_closing_a_stream_early_ends_it(steered: SteeredModel) -> None:
    pieces = steered.stream(SECOND, max_new_tokens=150)
    next(pieces)
    assert any(thread.name == "pasta-stream" for thread in threading.enumerate())
    pieces.close()  # the fixture sees that no thread is left
    assert list(pieces) == []


def test_an_error_inside_the_model_surfaces_and_leaves_nothing(
    steered: SteeredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = steered.generate(SECOND, max_new_tokens=5)
    with monkeypatch.context() as patch:
        patch.setattr(steered.model.lm_head, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steered.generate(SECOND, max_new_tokens=5)
        with pytest.raises(ZeroDivisionError):
            list(steered.stream(SECOND, max_new_tokens=5))
        with pytest.raises(ZeroDivisionError):
            steered.score(SECOND, [" Ada"])
    vars(steered.model.lm_head).pop("forward", None)
    with pytest.raises(ValueError, match="not_an_argument"):
        steered.generate(SECOND, not_an_argument=1)
    assert steered.generate(SECOND, max_new_tokens=5) == before


def test_sampling_follows_the_seed(steered: SteeredModel) -> None:
    def sampled(seed: int) -> str:
        torch.manual_seed(seed)
        return steered.generate(SECOND, max_new_tokens=8, do_sample=True)

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(4)}) > 1


def test_alpha_overrides_the_profiles_and_1_is_the_unsteered_model(steered: SteeredModel) -> None:
    scores = {alpha: steered.score(SECOND, [" Bo"], alpha=alpha) for alpha in (None, 0.02, 0.5)}
    assert scores[None] == scores[0.02]
    assert scores[0.5] != scores[0.02]
    assert steered.score(SECOND, [" Bo"], alpha=1) == steered.score(TEXT, [" Bo"])
    own = SpanStr(TEXT, [Span(31, 61, 0.5)])
    assert steered.score(own, [" Bo"], alpha=0.02) == scores[0.5], "a span's own alpha wins"
    assert set(steered.inputs(SECOND, alpha=1.0)) == {"input_ids", "attention_mask"}
    untouched = tiny.llama()
    with torch.no_grad():
        expected = untouched(**steered.inputs(TEXT)).logits
        assert torch.equal(steered.model(**steered.inputs(SECOND, alpha=1)).logits, expected)


def test_32_threads_with_20_prompts_each_write_exactly_what_one_writes(
    steered: SteeredModel,
) -> None:
    """Each thread has its own emphasis, and asks in every way."""
    prompts = [
        SpanStr(TEXT, [Span(start, start + 7, 1 / (2 + turn))])
        for start in range(0, 64, 2)
        for turn in range(20)
    ]

    def ask(number: int) -> tuple[object, ...]:
        prompt = prompts[number]
        if number % 3 == 0:
            return tuple(steered.score(prompt, [" Bo", " Ada"]))
        if number % 3 == 1:
            return tuple(steered.stream(prompt, max_new_tokens=4))
        return tuple(steered.run(prompt, max_new_tokens=4, do_sample=True, seed=number))

    alone = [ask(number) for number in range(len(prompts))]
    assert len(set(alone[::3])) == len(alone[::3]), "emphasis is felt"
    barrier = threading.Barrier(32)

    def work(thread: int) -> list[tuple[object, ...]]:
        barrier.wait()
        return [ask(number) for number in range(thread * 20, thread * 20 + 20)]

    with ThreadPoolExecutor(32) as pool:
        found = [answer for answers in pool.map(work, range(32)) for answer in answers]
    assert found == alone


def test_a_seed_makes_sampling_repeatable_whatever_else_is_in_the_batch(
    steered: SteeredModel,
) -> None:
    arguments: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "temperature": 2.0}
    alone = steered.generate(SECOND, seed=5, **arguments)
    torch.manual_seed(0)
    torch.rand(3)
    assert steered.generate([TEXT[:40], SECOND, TEXT], seed=5, **arguments)[1] == alone
    assert "".join(steered.stream(SECOND, seed=5, **arguments)) == alone
    assert len({steered.generate(SECOND, seed=seed, **arguments) for seed in range(8)}) > 4
    greedy = steered.generate(SECOND, max_new_tokens=8)
    assert steered.generate(SECOND, seed=5, max_new_tokens=8) == greedy
    cold = arguments | {"temperature": 1e-4}
    assert steered.generate(SECOND, seed=5, **cold) == greedy, "temperature comes before the draw"


def test_several_answers_come_prompt_by_prompt(steered: SteeredModel) -> None:
    arguments: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "temperature": 2.0}
    three = steered.generate(SECOND, seed=5, num_return_sequences=3, **arguments)
    assert len(set(three)) == 3
    assert three[0] == steered.generate(SECOND, seed=5, **arguments)
    six = steered.run([TEXT[:40], SECOND], seed=5, num_return_sequences=3, **arguments)
    assert [found.text for found in six[3:]] == list(three)
    assert [found.prompt_tokens for found in six] == [six[0].prompt_tokens] * 3 + [
        six[5].prompt_tokens
    ] * 3
    beams = steered.run(SECOND, num_beams=3, num_return_sequences=2, max_new_tokens=8)
    assert beams[0] == steered.run(SECOND, num_beams=3, max_new_tokens=8)[0]


def test_an_assistant_changes_nothing_that_is_written(steered: SteeredModel) -> None:
    assistant = tiny.llama(seed=1)
    expected = steered.generate(SECOND, max_new_tokens=12)
    assert steered.generate(SECOND, max_new_tokens=12, assistant_model=assistant) == expected
    assert steered.generate(SECOND, max_new_tokens=12, prompt_lookup_num_tokens=3) == expected
    with pytest.raises(PromptError, match=r"transformers cannot generate this way: .*batch"):
        steered.generate([SECOND, TEXT], assistant_model=assistant)


def test_asyncio_gets_the_same_answers(steered: SteeredModel) -> None:
    async def ask() -> tuple[Any, Any, str]:
        one, two = await asyncio.gather(
            steered.agenerate(SECOND, max_new_tokens=6),
            steered.agenerate([TEXT, SECOND], max_new_tokens=6),
        )
        pieces = [piece async for piece in steered.astream(SECOND, max_new_tokens=6)]
        return one, two, "".join(pieces)

    one, two, streamed = asyncio.run(ask())
    assert one == streamed == steered.generate(SECOND, max_new_tokens=6)
    assert two == steered.generate([TEXT, SECOND], max_new_tokens=6)
    with pytest.raises(PromptError, match="must be a whole number"):
        asyncio.run(steered.agenerate(SECOND, max_new_tokens=0))


def test_an_exception_inside_generate_leaves_the_model_as_it_was(steered: SteeredModel) -> None:
    def fail(input_ids: Any, scores: Any) -> Any:
        raise ZeroDivisionError("in the middle")

    before = steered.generate(SECOND, max_new_tokens=6)
    with pytest.raises(ZeroDivisionError):
        steered.generate(SECOND, max_new_tokens=6, logits_processor=[fail])
    with pytest.raises(ZeroDivisionError):
        list(steered.stream(SECOND, max_new_tokens=6, logits_processor=[fail]))
    assert steered.generate(SECOND, max_new_tokens=6) == before
    with torch.no_grad():
        inputs = steered.inputs(TEXT)
        assert torch.equal(steered.model(**inputs).logits, tiny.llama()(**inputs).logits)


@pytest.mark.parametrize(
    ("prompt", "arguments", "error", "message"),
    [
        (None, {}, PromptError, "not NoneType"),
        ([1], {}, PromptError, "Prompt 0 of the list is 1"),
        ([{"content": "a"}], {}, PromptError, "has no role"),
        (TEXT, {"max_new_tokens": -1}, PromptError, "max_new_tokens is -1"),
        (TEXT, {"max_new_tokens": 0}, PromptError, "max_new_tokens is 0"),
        (TEXT, {"max_new_tokens": "5"}, PromptError, "must be a whole number above 0"),
        (TEXT, {"max_new_tokens": 1.5}, PromptError, "must be a whole number above 0"),
        (TEXT, {"max_new_tokens": 240}, PromptTooLongError, "answer may have 240, but the context"),
        (TEXT * 20, {}, PromptTooLongError, "Shorten the prompt"),
        (TEXT, {"max_length": 2}, PromptError, "max_length cannot be used here"),
        (
            TEXT,
            {"num_return_sequences": 2},
            PromptError,
            "cannot generate this way: .*greedy|cannot",
        ),
        (TEXT, {"no_such_argument": 2}, PromptError, "not used by the model: .*no_such_argument"),
        (TEXT, {"seed": -1}, PromptError, "seed is -1; it must be a whole number"),
        (TEXT, {"seed": 1, "num_beams": 2}, PromptError, "seed cannot be combined with num_beams"),
        (TEXT, {"alpha": 0}, EmphasisError, "alpha is 0"),
        ([SpanStr("a  b", [(1, 3)])], {}, EmphasisError, "covers no token"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(
    steered: SteeredModel, prompt: Any, arguments: dict[str, Any], error: type, message: str
) -> None:
    assert issubclass(error, PastaError)
    with pytest.raises(error, match=message):
        steered.generate(prompt, **arguments)
    if not isinstance(prompt, list):
        expected = message if prompt is not None else "A prompt is a text"
        with pytest.raises(error, match=expected):
            list(steered.stream(prompt, **arguments))


def test_inputs_of_nothing_are_refused(steered: SteeredModel) -> None:
    with pytest.raises(PromptError, match="list of prompts is empty"):
        steered.inputs([])


def test_the_default_length_is_what_the_context_leaves(steered: SteeredModel) -> None:
    (found,) = steered.run([SpanStr(TEXT * 6, [(0, 30)])], eos_token_id=None)
    assert steered.context_length == 256
    assert found.prompt_tokens + found.new_tokens == 256


def test_the_profile_may_be_replaced_between_requests() -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer())
    plain = steered.generate(TEXT, max_new_tokens=5)
    with pytest.raises(ProfileError, match="has no head profile, so nothing would be steered"):
        steered.generate(SECOND)
    with pytest.raises(ProfileError, match="no head profile"):
        steered.stream(SECOND)
    steered.profile = HeadProfile({})
    assert steered.generate(SECOND, max_new_tokens=5) == plain
    steered.profile = PROFILE
    assert steered.generate(SECOND, max_new_tokens=5) != plain
    with pytest.raises(ProfileError, match="steers layer 3"):
        steered.profile = replace(PROFILE, heads={3: [0]})
    with pytest.raises(ProfileError, match="steers head 4 of layer 2"):
        steered.profile = replace(PROFILE, heads={2: [4]})
    assert steered.profile == PROFILE, "a refused profile changes nothing"


def test_tokenized_prompts_become_inputs_padded_on_either_side(steered: SteeredModel) -> None:
    prompts = [tokenize(prompt, steered.tokenizer, 0.02) for prompt in (SHORT, FIRST)]
    left = steered.inputs_of(prompts, left=True)
    by_hand = steered.inputs([SHORT, FIRST])
    assert left.keys() == by_hand.keys()
    assert left["steering_heads"] == by_hand["steering_heads"]
    for name in ("input_ids", "attention_mask", "steering_bias"):
        assert torch.equal(left[name], by_hand[name])
    right = steered.inputs_of(prompts, HeadProfile({1: [2]}), left=False)
    assert right["steering_heads"] == {0: (), 1: (2,), 2: ()}
    short = len(prompts[0].ids)
    assert right["input_ids"][0, :short].tolist() == prompts[0].ids
    assert right["attention_mask"][0].tolist() == [1] * short + [0] * (len(prompts[1].ids) - short)
    assert "steering_bias" not in steered.inputs_of(prompts, HeadProfile({}), left=False)
    with pytest.raises(PromptTooLongError):
        steered.inputs_of([tokenize(TEXT * 20, steered.tokenizer, 1.0)], left=False)
    with pytest.raises(ProfileError, match="steers layer 9"):
        steered.inputs_of(prompts, HeadProfile({9: [0]}), left=False)


def test_the_heads_of_a_model_are_told_and_a_profile_is_checked(steered: SteeredModel) -> None:
    assert steered.head_counts == {0: 4, 1: 4, 2: 4}
    assert steered.takes_batches
    steered.check_profile(PROFILE)
    for heads in ({3: [0]}, {0: [4]}):
        with pytest.raises(ProfileError, match="The head profile steers"):
            steered.check_profile(HeadProfile(heads))
    model = tiny.llama()
    model.config.name_or_path = "some/model"
    named = SteeredModel(model, tiny.tokenizer())
    with pytest.raises(ProfileError, match="belongs to other/one"):
        named.check_profile(HeadProfile({}, model="other/one"))
