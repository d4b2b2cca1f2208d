"""How good an answer is: the measures of the paper, and those for tasks of one's own.

The paper is Zhang et al., arXiv 2311.02262, section 4 and appendix A. A test holds that the paper's
published code gives the same on the same answers, apart from what is said here.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import TaskError

FLUENCY_FLOOR = 3.0
"""Runs whose answers are less fluent on average are discarded (appendix A)."""

SUBJECTS = frozenset("she he".split())
"""What has to become "they"."""

FORMS = SUBJECTS | frozenset("her him hers his herself himself".split())
"""All that says whether someone is a woman or a man."""

_UNSPACED = (
    r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese: no spaces between words."""


def json_objects(output: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, by where they begin; an object inside another one follows it.

    Args:
        output: What a model wrote. Text before, between and after objects does no harm.
    """
    decoder = json.JSONDecoder()
    for found in re.finditer(r"\{", output):
        try:
            # An object ends where it ends, so one try does for all "}" that follow.
            yield decoder.raw_decode(output, found.start())[0]
        except (ValueError, RecursionError):  # not JSON, or nested too deeply to be read
            continue


def is_json(output: str) -> bool:
    """JSON formatting, "F.Acc": some part of the answer is a JSON object.

    As in the published code, `{}` is one, the object need not have the fields that were asked for,
    and `NaN` counts as a number.
    """
    return next(json_objects(output), None) is not None


def json_names(output: str, target: str) -> bool:
    """JSON formatting, "P.Acc": a value in an answer's JSON contains the target, in any case.

    As in the published code, values of every field count, those of inner objects too, but not what
    stands in a list. The target may be part of a word: `"nursery"` contains "nurse".

    Args:
        output: The answer.
        target: The occupation.
    """
    wanted = target.lower()
    return any(
        isinstance(value, str) and wanted in value.lower()
        for found in json_objects(output)
        for value in found.values()
    )


def pronouns_changed(output: str) -> bool:
    """Pronouns changing, "Acc": the answer has no "she" and no "he".

    An empty answer fails; in the published code it is right. The words of "it.She", "(s)he" and
    web addresses count each for itself; the published code's tokenizer keeps them together.
    """
    return _free_of(SUBJECTS, output)


def all_pronouns_changed(output: str) -> bool:
    """Pronouns changing, "A.Acc": nor "her", "him", "hers", "his", "herself" and "himself".

    What `pronouns_changed` says of empty answers and of words holds here too.
    """
    return _free_of(FORMS, output)


def _free_of(words: frozenset[str], output: str) -> bool:
    # Without "_", so that text in _italics_ is found.
    return bool(output.strip()) and words.isdisjoint(re.findall(r"[^\W_]+", output.lower()))


def equals(output: str, wanted: str, *, any_case: bool = False) -> bool:
    """Whether an answer is what was wanted, apart from white space around it.

    Args:
        output: The answer.
        wanted: The right one.
        any_case: Take capitals and small letters for the same.
    """
    given, right = output.strip(), wanted.strip()
    return given.casefold() == right.casefold() if any_case else given == right


def contains(output: str, wanted: str) -> bool:
    """Whether an answer contains what was wanted as whole words, in any case.

    Scripts that set no spaces between words (Chinese, Japanese, Thai, …) have no whole words: text
    of these may stand beside it.
    """
    sought = re.escape(unicodedata.normalize("NFC", wanted.strip()))
    pattern = rf"(?<![^\W{_UNSPACED}]){sought}(?![^\W{_UNSPACED}])"
    return re.search(pattern, unicodedata.normalize("NFC", output), re.IGNORECASE) is not None


def matches(output: str, pattern: str) -> bool:
    """Whether a regular expression is found anywhere in an answer.

    Args:
        output: The answer.
        pattern: In Python's syntax; `(?i)` at its start ignores case, `(?s)` lets `.` match line
            breaks.

    Raises:
        TaskError: The pattern is no regular expression.
    """
    try:
        return re.search(pattern, output) is not None
    except re.error as error:
        raise TaskError(f"{pattern!r} is no regular expression: {error}. Correct it.") from error


def json_field(output: str, path: str, wanted: object) -> bool:
    """Whether a field of the first JSON object in an answer has a value.

    Args:
        output: The answer.
        path: Names of fields, from outer to inner, joined by dots: `"person.name"`. A number is a
            place in a list, from 0: `"people.0.name"`.
        wanted: The value, as `json.loads` gives it. Its type counts: `"3"` is not 3, and 1 is not
            `true`.
    """
    found: Any = next(json_objects(output), None)
    for name in path.split("."):
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return False
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)


def fluency(text: str) -> float:
    """How varied a text is: the mean of 2/3 H2 and 4/3 H3, entropies of n-grams in bits.

    A text that repeats itself has a low one. It grows with the length too: a text of 12 different
    tokens has 3.37, and of 3 tokens 0.33. With fewer tokens it is 0, as in the published code.

    Tokens are words and punctuation, as NLTK's `word_tokenize` has them in ordinary English; other
    ways to decide whether a period ends a sentence make it differ a little now and then.
    """
    tokens = _tokens(text)
    return (2 / 3 * _entropy(tokens, 2) + 4 / 3 * _entropy(tokens, 3)) / 2


def _entropy(tokens: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
    total = counts.total()
    return math.fsum(-count / total * math.log2(count / total) for count in counts.values())


_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st jr sr rep sen gen maj lt inc co corp cos ltd bros vs ave jan feb aug "
    "sept sep oct nov dec u.s u.k u.s.a d.c a.m p.m ph.d".split()
)
_LONGEST = 8
"""No abbreviation is longer, with a bracket before it."""

_STARTERS = frozenset(
    "he she it they this these those there the his her their in if when while but yet so since "
    "most many some however both i we although even indeed instead".split()
)
"""With a capital these begin a sentence, even after an abbreviation."""

_CLOSING = r"['\u2019”»)\]}>`*_\s]"
_NEXT_WORD = re.compile(_CLOSING + r"*+(\w+|\S)")
_APART = re.compile(
    rf"""
    \.{{2,}} | -- | `` | ` | ''
    | [«»“”\u2018\u2019„()\[\]{{}}<>;@\#$%&?!*\u2012-\u2015]
    | [:,](?!\d)  # 1,000 and 10:30 stay whole
    | (?<!\w)'(?=\w) | (?<=[^\s'])'(?=[\s,:;.?!)\]}}]|$)  # around a quotation
    | (?:n't|'(?:s|m|d|ll|re|ve))(?!\w)
    | (?<=\b(?:can|gon|wan|got))(?:not|na|ta)\b
    | \.(?=(?:(?!\s){_CLOSING})*+(?:\s|$))  # may end a sentence
    """,
    re.VERBOSE | re.IGNORECASE,
)


def _tokens(text: str) -> list[str]:
    text = re.sub(r'(?<![^\s(\[{<])"', " `` ", text).replace('"', " '' ")
    return _APART.sub(_set_apart, text).split()


def _set_apart(found: re.Match[str]) -> str:
    token = found.group()
    return token if token == "." and not _ends_sentence(found) else f" {token} "


def _ends_sentence(period: re.Match[str]) -> bool:
    text = period.string
    next_word = _NEXT_WORD.match(text, period.end())
    if next_word is None:  # the text ends
        return True
    before = text[max(0, period.start() - _LONGEST) : period.start()].split()
    word = before[-1].lstrip("'([{").lower() if before else ""
    if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()):
        return next_word[1].istitle() and next_word[1].lower() in _STARTERS
    return True
