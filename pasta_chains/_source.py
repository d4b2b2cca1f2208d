"""What is rewritten in the source of a template before Jinja reads it: our tags, and bold."""

from __future__ import annotations

import re

import jinja2
from jinja2.lexer import newline_re

_OUR_TAG = re.compile("(?:end)?(?:de)?emphasize")


def with_block_tags(
    source: str, environment: jinja2.Environment, name: str | None, filename: str | None
) -> str:
    """Gives `<% emphasize %>` and its kin the delimiters of the environment's blocks.

    Raises:
        jinja2.TemplateSyntaxError: A tag is misspelt or not closed, and would be printed.
    """
    start, end = environment.block_start_string, environment.block_end_string

    def rewrite(match: re.Match[str]) -> str:
        if match["wrong"] is not None:
            line = 1 + len(newline_re.findall(source, 0, match.start()))
            raise jinja2.TemplateSyntaxError(_advice(match["wrong"]), line, name, filename)
        inside = match["inside"]
        return match[0] if inside is None else f"{start}{inside}{end}"

    return re.compile(_tag_or_code(environment), re.DOTALL).sub(rewrite, source)


def with_bold_as_tags(source: str, environment: jinja2.Environment) -> str:
    """Puts emphasize tags in the place of pairs of `**`, outside Jinja's own code.

    As in Markdown, a pair stands close to its text and in one paragraph; other asterisks stay.
    """
    start, end = environment.block_start_string, environment.block_end_string
    # The plus signs keep the white space around the tags, whatever the environment trims.
    opening, closing = f"{start}+ emphasize +{end}", f"{start}+ endemphasize +{end}"
    token = rf"{_tag_or_code(environment)}|(?<!\*)(?P<bold>\*\*)(?!\*)|(?P<blank>\n[ \t]*\n)"
    pairs: list[tuple[int, int]] = []
    opened: int | None = None
    for match in re.compile(token, re.DOTALL).finditer(source):
        at = match.start()
        if match["blank"] is not None:
            opened = None
        elif match["bold"] is None:
            continue
        elif opened is None:
            opened = None if source[at + 2 : at + 3].strip() == "" else at
        elif not source[at - 1].isspace() and at > opened + 2:
            pairs.append((opened, at))
            opened = None
    for first, last in reversed(pairs):
        inside = source[first + 2 : last]
        source = f"{source[:first]}{opening}{inside}{closing}{source[last + 2 :]}"
    return source


def _advice(tag: str) -> str:
    if _OUR_TAG.fullmatch(tag):
        return f"The tag <% {tag} is not closed by %>."
    return (
        f"Unknown tag <% {tag} %>. The tags are emphasize, endemphasize, deemphasize and "
        "enddeemphasize; write {% raw %}…{% endraw %} around text that is no tag."
    )


def _tag_or_code(environment: jinja2.Environment) -> str:
    """Returns a pattern for our tags, and for the code that may only quote them.

    The group `inside` is what a tag holds, the group `wrong` the name of a misspelt or open tag.

    Comments, raw blocks and Jinja's own expressions come first, so that what looks like a tag in
    them is passed over.
    """
    block, end_block = map(
        re.escape, (environment.block_start_string, environment.block_end_string)
    )
    print_, end_print = map(
        re.escape, (environment.variable_start_string, environment.variable_end_string)
    )
    note, end_note = map(
        re.escape, (environment.comment_start_string, environment.comment_end_string)
    )
    string = r'"(?:\\.|[^"\\])*+"|' r"'(?:\\.|[^'\\])*+'"
    return (
        rf"{note}.*?(?:{end_note}|\Z)"
        rf"|{block}[-+]?\s*raw\s*-?{end_block}.*?{block}[-+]?\s*endraw\s*[-+]?{end_block}"
        rf"|{block}(?:{string}|(?!{end_block})[^\"'])*+{end_block}"
        rf"|{print_}(?:{string}|(?!{end_print})[^\"'])*+{end_print}"
        rf"|<%(?P<inside>[-+]?\s*(?:end)?(?:de)?emphasize\b(?:{string}|(?!%>)[^\"'])*+)%>"
        r"|<%[-+]?\s*(?P<wrong>(?i:(?:end)?(?:de)?emphasi[sz]\w*))"
    )
