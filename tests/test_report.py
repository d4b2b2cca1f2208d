"""Reports on one prompt: they say what the model does, and show all of it and nothing else's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import tiny
import torch
from fake_server import fake_server
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_cli import run

from pasta_chains import HeadProfile, SpanStr, SteeredModel, connect
from pasta_chains.errors import EmphasisError, ProfileError
from pasta_chains.report import PromptReport, inspect_prompt
from pasta_chains.report.page import heat_maps, pieces
from pasta_chains.spans import Span

PROFILE = HeadProfile({1: [0, 2], 2: [3]}, alpha=0.01)
TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
PROMPT = SpanStr(
    TEXT, [Span(0, 30, None, "office"), Span(31, 61, 0.5), Span(62, 79, None, None, True)]
)
NEW = 6


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    return SteeredModel(tiny.llama().double(), tiny.tokenizer(), PROFILE)


@pytest.fixture(scope="module")
def report(model: SteeredModel) -> PromptReport:
    return inspect_prompt(model, PROMPT, max_new_tokens=NEW)


class Page(HTMLParser):
    """What a browser would find: text by the class of what holds it, and what it would fetch."""

    VOID = {"meta", "br", "link", "img", "input"}

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, str]] = []
        self.texts: dict[str, str] = {}
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.fetched += [given[name] or "" for name in ("src", "href", "srcset") if name in given]
        if tag not in self.VOID:
            self.open.append((tag, given.get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for name in {name for _, names in self.open for name in names.split()}:
            self.texts[name] = self.texts.get(name, "") + data


def test_answers_are_the_models_own(model: SteeredModel, report: PromptReport) -> None:
    assert report.steered is not None
    assert report.steered.text == model.generate(PROMPT, max_new_tokens=NEW, do_sample=False)
    assert report.unsteered.text == model.generate(TEXT, max_new_tokens=NEW, do_sample=False)
    assert report.steered.text != report.unsteered.text


def test_first_tokens_have_the_models_probabilities(
    model: SteeredModel, report: PromptReport
) -> None:
    with torch.no_grad():
        read = {
            steered: model.model(**model.inputs(prompt)).logits[0, -1].softmax(-1)
            for steered, prompt in ((False, TEXT), (True, PROMPT))
        }
    found = report.first_tokens
    for steered, probabilities in read.items():
        likeliest: dict[str, float] = {}
        for probability, token in zip(*probabilities.topk(10), strict=True):
            text = model.tokenizer.decode([token.item()])
            likeliest[text] = likeliest.get(text, 0.0) + probability.item()
        told = {one.token: one.steered if steered else one.unsteered for one in found}
        assert {token: one for token, one in told.items() if one is not None} == pytest.approx(
            likeliest, abs=1e-6
        )
    highest = [max(one.unsteered or 0, one.steered or 0) for one in found]
    assert highest == sorted(highest, reverse=True)


def test_tokens_are_read_at_their_weights(model: SteeredModel, report: PromptReport) -> None:
    read = model.read_prompt(PROMPT)
    assert [token.id for token in report.tokens] == read.ids
    assert [math.log(token.weight) for token in report.tokens] == pytest.approx(read.bias)
    weights = {token.span: token.weight for token in report.tokens}
    office, other, question = PROMPT.spans
    assert weights == pytest.approx({office: 1.0, other: 0.02, question: 1e-4, None: 0.01})


def test_attention_is_that_of_attention_to_spans(model: SteeredModel, report: PromptReport) -> None:
    shares = model.attention_to_spans(PROMPT, max_new_tokens=NEW)
    assert report.shares is not None
    assert torch.equal(report.shares.answer_steered, shares.answer_steered)
    before, after = heat_maps(report)
    assert [row for _, row in before.rows] == shares.answer_unsteered.tolist()
    assert [row for _, row in after.rows] == shares.answer_steered.tolist()
    assert after.steered == {(1, 0), (1, 2), (2, 3)}


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=30), st.integers(0, 29), st.integers(1, 30))
def test_a_prompt_is_shown_whole_and_once(
    model: SteeredModel, text: str, start: int, length: int
) -> None:
    assume(start < len(text))
    prompt = SpanStr(text, [Span(start, min(start + length, len(text)))])
    try:
        report = inspect_prompt(model, prompt, max_new_tokens=1)
    except EmphasisError:  # the span has no visible character
        assume(False)
    every = list(pieces(report))
    shown = [piece for piece in every if not piece.token or piece.token.start < piece.token.end]
    assert "".join(piece.text for piece in shown) == text
    # A browser reads each kind of line end as one.
    html = Page(report.to_html()).texts["prompt"]
    assert html.splitlines() == "".join(piece.text for piece in every).splitlines()


def test_html_in_a_prompt_stays_text(model: SteeredModel) -> None:
    text = SpanStr('<script>alert("x")</script> & <b>Ada</b>', [Span(0, 8, None, "<i>")])
    page = Page(inspect_prompt(model, text, max_new_tokens=1).to_html())
    assert not {"script", "b", "i"} & set(page.tags)
    assert text.text in page.texts["prompt"]


def test_a_page_fetches_nothing(report: PromptReport) -> None:
    html = report.to_html()
    assert Page(html).fetched == []
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html


def test_a_page_has_a_cell_for_each_head(model: SteeredModel, report: PromptReport) -> None:
    tags = Page(report.to_html()).tags
    assert tags.count("rect") == 2 * sum(model.head_counts.values())
    assert Page(report._repr_html_()).tags.count("rect") == tags.count("rect")


def test_json_holds_all_of_it(report: PromptReport) -> None:
    assert report.steered is not None
    told = json.loads(json.dumps(report.to_dict()))
    assert SpanStr.from_dict(told["prompt"]) == PROMPT
    assert told["heads"] == {"1": [0, 2], "2": [3]}
    assert len(told["tokens"]) == len(report.tokens)
    assert told["tokens"][-1]["span"] is None
    assert told["attention"]["answer_steered"]
    assert told["steered"]["text"] == report.steered.text


def test_a_prompt_without_emphasis_says_so(model: SteeredModel) -> None:
    report = inspect_prompt(model, TEXT, max_new_tokens=1)
    assert report.steered is None
    assert report.shares is None
    assert "Nothing in this prompt is emphasized" in Page(report.to_html()).texts["note"]


def test_deemphasized_text_alone_is_steered_and_not_measured(model: SteeredModel) -> None:
    report = inspect_prompt(model, SpanStr(TEXT, [Span(0, 30, None, None, True)]), max_new_tokens=1)
    assert report.steered is not None
    assert report.shares is None
    assert "Only deemphasized text" in str(report.remark)


def test_another_profile_and_alpha_are_those_that_are_told(model: SteeredModel) -> None:
    other = HeadProfile({0: [1]}, alpha=0.2)
    report = inspect_prompt(model, PROMPT, max_new_tokens=1, profile=other, alpha=0.3)
    assert (report.profile, report.alpha) == (other, 0.3)
    (_, after) = heat_maps(report)
    assert after.steered == {(0, 1)}
    assert report.shares is not None
    assert report.shares.last_steered is not None
    before = inspect_prompt(model, PROMPT, max_new_tokens=1).shares
    assert before is not None
    assert not torch.equal(report.shares.last_steered, before.last_steered)


def test_a_model_without_a_profile_is_refused() -> None:
    with pytest.raises(ProfileError, match="has no head profile"):
        inspect_prompt(SteeredModel(tiny.llama(), tiny.tokenizer()), PROMPT)


@pytest.fixture
def url() -> Iterator[str]:
    with fake_server(SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)) as server:
        yield server.url


def test_a_server_is_asked_the_same(url: str, report: PromptReport) -> None:
    remote = connect(url)
    found = inspect_prompt(remote, PROMPT, max_new_tokens=NEW)
    assert found.steered is not None
    assert report.steered is not None
    assert found.steered.text == report.steered.text
    assert found.unsteered.text == report.unsteered.text
    assert found.tokens == report.tokens
    assert found.shares is None
    assert "does not show its attention" in str(found.remark)
    remote.close()


def test_the_command_writes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    template, out = tmp_path / "rule.jinja", tmp_path / "report.html"
    template.write_text("<% emphasize %>{{ fact }}<% endemphasize %>\n\nQuestion: Who?\nAnswer:")
    given = ("inspect", str(template), "--set", "fact=The mayor is Ada.", "--max-new-tokens", "3")
    assert run(capsys, monkeypatch, *given, "--out", str(out))[0] == 0
    assert "The mayor is Ada." in Page(out.read_text(encoding="utf-8")).texts["prompt"]
    status, printed, _ = run(
        capsys, monkeypatch, *given, "--format", "json", "--chat", "--alpha", "0.5"
    )
    told = json.loads(printed)
    assert (status, told["alpha"]) == (0, 0.5)
    assert "<|user|>" in told["prompt"]["text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--base-url", "http://localhost:1", "--model", "x"), "Leave --model and --profile out"),
        (("--base-url", "http://localhost:1"), "cannot be reached"),
        (("--alpha", "7"), "alpha is 7.0"),
        (("--profile", "nothing.json"), "nothing.json"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    template = tmp_path / "rule.jinja"
    template.write_text("<% emphasize %>The mayor is Ada.<% endemphasize %>")
    status, _, err = run(capsys, monkeypatch, "inspect", str(template), *options)
    assert status == 2
    assert message in err
