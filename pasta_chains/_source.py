"""What is rewritten in the source of a template before Jinja reads it: our tags, and bold.

The source is read from left to right. Comments, raw blocks and Jinja's own code are passed over, so
that what looks like a tag or bold in them stays what it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import jinja2
from jinja2.lexer import newline_re

_STRING = r'"(?:\\.|[^"\\])*+"|' r"'(?:\\.|[^'\\])*+'"
_BREAK = r"(?:\r\n|\r|\n)"
_OUR_TAG = re.compile("(?:end)?(?:de)?emphasize")


@dataclass(frozen=True)
class _Part:
    """A part of the source that is more than text.

    Attributes:
        kind: "code", "tag" (ours), "wrong" (a misspelt or open one), "bold" or "blank" (a line).
        start: Its first character.
        end: The one after its last.
        inside: What a tag holds, or the name of a wrong one.
    """

    kind: str
    start: int
    end: int
    inside: str = ""


def with_block_tags(
    source: str, environment: jinja2.Environment, name: str | None, filename: str | None
) -> str:
    """Gives `<% emphasize %>` and its kin the delimiters of the environment's blocks.

    Raises:
        jinja2.TemplateSyntaxError: A tag is misspelt or not closed, and would be printed.
    """
    start, end = environment.block_start_string, environment.block_end_string
    changes: list[tuple[int, int, str]] = []
    for part in _parts(source, environment):
        if part.kind == "wrong":
            line = 1 + len(newline_re.findall(source, 0, part.start))
            raise jinja2.TemplateSyntaxError(_advice(part.inside), line, name, filename)
        if part.kind == "tag":
            changes.append((part.start, part.end, f"{start}{part.inside}{end}"))
    return _changed(source, changes, environment)


def with_bold_as_tags(source: str, environment: jinja2.Environment) -> str:
    """Puts emphasize tags in the place of pairs of `**`, outside Jinja's own code.

    Which asterisks make a pair is as in Markdown (CommonMark 0.31, section 6.2), in one paragraph.
    """
    start, end = environment.block_start_string, environment.block_end_string
    # The plus signs keep the white space around the tags, whatever the environment trims.
    opening, closing = f"{start}+ emphasize +{end}", f"{start}+ endemphasize +{end}"
    parts = list(_parts(source, environment))
    code = {part.start for part in parts if part.kind == "code"}
    code_ends = {part.end for part in parts if part.kind == "code"}
    opened: list[int] = []
    changes: list[tuple[int, int, str]] = []
    for part in parts:
        if part.kind == "blank":
            opened.clear()
        if part.kind != "bold":
            continue
        # Code prints something, most likely a word.
        before = "x" if part.start in code_ends else source[part.start - 1 : part.start]
        after = "x" if part.end in code else source[part.end : part.end + 1]
        if opened and _flanks(after, before) and part.start > opened[-1] + 2:
            first = opened.pop()
            changes += [(first, first + 2, opening), (part.start, part.end, closing)]
        elif _flanks(before, after):
            opened.append(part.start)
    return _changed(source, sorted(changes), environment)


def _flanks(outside: str, inside: str) -> bool:
    """Whether asterisks between two characters can belong to the text on the inside."""
    if not inside or inside.isspace():
        return False
    apart = not outside or outside.isspace() or _is_punctuation(outside)
    return apart or not _is_punctuation(inside)


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _changed(
    source: str, changes: list[tuple[int, int, str]], environment: jinja2.Environment
) -> str:
    """Replaces parts of the source; a brace before a new tag must not become part of it."""
    delimiters = (
        environment.block_start_string,
        environment.variable_start_string,
        environment.comment_start_string,
    )
    pieces: list[str] = []
    position = 0
    for start, end, new in changes:
        text = source[position:start]
        if text and (text[-1] + new).startswith(delimiters):
            printed = f"{environment.variable_start_string} {text[-1]!r} "
            text = f"{text[:-1]}{printed}{environment.variable_end_string}"
        pieces += (text, new)
        position = end
    return "".join([*pieces, source[position:]])


def _advice(tag: str) -> str:
    if _OUR_TAG.fullmatch(tag):
        return f"The tag <% {tag} is not closed by %>."
    return (
        f"Unknown tag <% {tag} %>. The tags are emphasize, endemphasize, deemphasize and "
        "enddeemphasize; write {% raw %}…{% endraw %} around text that is no tag."
    )


def _parts(source: str, environment: jinja2.Environment) -> Iterator[_Part]:
    start = _starts(environment)
    position = 0
    while match := start.search(source, position):
        kind = match.lastgroup or ""
        position = match.end()
        if kind in ("variable", "block"):
            end = (
                environment.variable_end_string
                if kind == "variable"
                else environment.block_end_string
            )
            position = _end_of_code(source, position, end)
            kind = "code"
        elif kind in ("raw", "statement", "remark"):
            kind = "code"
        inside = match["inside"] if kind == "tag" else match["name"] if kind == "wrong" else ""
        yield _Part(kind, match.start(), position, inside)


def _end_of_code(source: str, position: int, end: str) -> int:
    """Where code ends: at its delimiter, outside strings and brackets."""
    token = re.compile(rf"{_STRING}|(?P<end>{re.escape(end)})|(?P<open>[\[({{])|[\])}}]", re.DOTALL)
    depth = 0
    while match := token.search(source, position):
        if match["end"] and depth == 0:
            return match.end()
        position = match.end()
        if match["end"]:
            position = match.start() + 1  # a closing bracket may begin it
            depth -= source[match.start()] in "])}"
        elif match["open"]:
            depth += 1
        elif len(match[0]) == 1:
            depth = max(depth - 1, 0)
    return len(source)


def _starts(environment: jinja2.Environment) -> re.Pattern[str]:
    """Returns a pattern for where a part begins; the longer delimiter comes first, as in Jinja."""
    block, end_block = map(
        re.escape, (environment.block_start_string, environment.block_end_string)
    )
    note, end_note = map(
        re.escape, (environment.comment_start_string, environment.comment_end_string)
    )
    inside = rf"[-+]?\s*(?:end)?(?:de)?emphasize\b(?:{_STRING}|(?!%>|<%|{end_block})[^\"'])*+"
    own = {
        environment.comment_start_string: rf"(?P<code>{note}.*?(?:{end_note}|\Z))",
        environment.block_start_string: (
            rf"(?P<raw>{block}[-+]?\s*raw\s*-?{end_block}.*?"
            rf"{block}[-+]?\s*endraw\s*[-+]?{end_block})|(?P<block>{block})"
        ),
        environment.variable_start_string: (
            rf"(?P<variable>{re.escape(environment.variable_start_string)})"
        ),
    }
    patterns = [own[delimiter] for delimiter in sorted(own, key=len, reverse=True)]
    if environment.line_statement_prefix is not None:
        prefix = re.escape(environment.line_statement_prefix)
        patterns.insert(0, rf"(?P<statement>^[ \t\v]*{prefix}[^\r\n]*)")
    if environment.line_comment_prefix is not None:
        prefix = re.escape(environment.line_comment_prefix)
        patterns.insert(0, rf"(?P<remark>(?:^|(?<=\S))[^\S\r\n]*{prefix}[^\r\n]*)")
    patterns += [
        rf"(?P<tag><%(?P<inside>{inside})%>)",
        r"(?P<wrong><%[-+]?\s*(?P<name>(?i:(?:end)?(?:de)?emphasi[sz]\w*)))",
        r"(?P<bold>(?<!\*)\*\*(?!\*))",
        rf"(?P<blank>{_BREAK}[ \t]*{_BREAK})",
    ]
    return re.compile("|".join(patterns), re.DOTALL | re.MULTILINE)
