"""Jinja templates that remember which characters were emphasized.

`{{ x }}`, `{% for %}` and all the rest are plain Jinja. Two tags and three filters are new:

    <% emphasize %>Answer from the documents.<% endemphasize %>
    <% deemphasize alpha=0.5 %>{{ footnotes }}<% enddeemphasize %>
    {{ document | emphasize(alpha=0.1, name="trusted") }}, {{ x | deemphasize }}, {{ x | plain }}

Emphasized text is rendered to a `SpanStr`, and Jinja joins its pieces with `Environment.concat`,
which the extension replaces by one that keeps spans. Nothing is written into the text, and
nothing outlives a rendering, so threads cannot meet and no variable can forge a span.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from functools import cache
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.environment import TemplateModule
from jinja2.ext import Extension
from jinja2.lexer import newline_re
from jinja2.nativetypes import NativeEnvironment
from jinja2.parser import Parser
from jinja2.runtime import Context, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from pasta_chains._filters import emphasis_filters
from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr, carries_emphasis, concat, drop_emphasis, warn_dropped

_OUR_TAG = re.compile("(?:end)?(?:de)?emphasize")


class EmphasizeExtension(Extension):
    """Adds emphasis to the `jinja2.Environment` that it is given to.

    `<% emphasize %>` and `{% emphasize %}` mean the same. Like Jinja's own `{% filter %}`, the
    block is a scope: what is `{% set %}` inside is not seen outside.

    Raises:
        EmphasisError: The environment is a `NativeEnvironment`, whose results are not text.
    """

    tags = {"emphasize", "deemphasize"}

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        if isinstance(environment, NativeEnvironment):
            raise EmphasisError(
                "A NativeEnvironment renders Python values, which cannot carry emphasis. "
                "Use pasta_chains.Environment or jinja2.Environment."
            )
        environment.filters.update(emphasis_filters(environment.filters))
        # Set on this one environment, of whatever class it is; overlays copy them.
        vars(environment).update(
            concat=concat,
            template_class=_emphasis_template(environment.template_class),
            handle_exception=_naming_the_place(environment),
        )

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Gives `<% emphasize %>` and its kin the delimiters of the environment's blocks.

        Raises:
            jinja2.TemplateSyntaxError: A tag is misspelt or not closed, and would be printed.
        """
        start, end = self.environment.block_start_string, self.environment.block_end_string

        def rewrite(match: re.Match[str]) -> str:
            if match["wrong"] is not None:
                line = 1 + len(newline_re.findall(source, 0, match.start()))
                raise jinja2.TemplateSyntaxError(_advice(match["wrong"]), line, name, filename)
            inside = match["inside"]
            return match[0] if inside is None else f"{start}{inside}{end}"

        return _tag_or_code(self.environment).sub(rewrite, source)

    def parse(self, parser: Parser) -> nodes.Node:
        """Parses a tag into a filter block, so that it compiles like any of Jinja's own."""
        tag = next(parser.stream)
        arguments = list(_parse_arguments(parser, tag.value))
        body = parser.parse_statements((f"name:end{tag.value}",), drop_needle=True)
        for loop_exit in _loop_exits(body):
            parser.fail(
                f"A loop cannot be left inside {tag.value}: its text would be lost. "
                f"Close the {tag.value} block first.",
                loop_exit.lineno,
            )
        mark = nodes.Filter(None, tag.value, [], arguments, None, None, lineno=tag.lineno)
        return nodes.FilterBlock(body, mark, lineno=tag.lineno)


class Environment(ImmutableSandboxedEnvironment):
    """A sandboxed Jinja environment with emphasis, strict about undefined variables.

    It is the sandbox in which transformers renders chat templates, too: a template can neither
    reach Python's internals nor change the lists and dicts that the application passes in.

    Args:
        **options: Those of `jinja2.Environment`. By default an undefined variable is an error
            and templates are loaded from the ones shipped with this package.
    """

    # A SpanStr does not hear of it when it stands in a tuple or dict to the right of a %.
    intercepted_binops = frozenset({"%"})

    def __init__(self, **options: Any) -> None:
        options.setdefault("undefined", jinja2.StrictUndefined)
        options.setdefault("loader", jinja2.FileSystemLoader(shipped_templates()))
        options["extensions"] = [EmphasizeExtension, *options.get("extensions", ())]
        super().__init__(**options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, str) and not isinstance(right, str) and carries_emphasis(right):
            warn_dropped("the % operator")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        # A plain string cannot take in emphasized pieces, as in {{ ", ".join(documents) }}.
        owner = getattr(obj, "__self__", None)
        if type(owner) is str and obj.__name__ in ("join", "replace"):
            obj = getattr(SpanStr(owner), obj.__name__)
        return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner = getattr(value, "__self__", None)
        if isinstance(owner, SpanStr) and value.__name__ in ("format", "format_map"):
            value = getattr(drop_emphasis(owner, "str.format"), value.__name__)
        return super().wrap_str_format(value)


def render(source: str, /, **variables: Any) -> SpanStr:
    """Renders the source of a template in the default `Environment`.

    Raises:
        EmphasisError: Something was emphasized that is empty, or with an impossible alpha.
        jinja2.TemplateError: The template is wrong or a variable is missing.
    """
    return SpanStr(_default_environment().from_string(source).render(variables))


def template_source(path: str | Path) -> str:
    """Returns the source of a template file, or of a shipped template such as `rag/qa.jinja`.

    Raises:
        jinja2.TemplateNotFound: There is neither.
    """
    if Path(path).is_file():
        return Path(path).read_text(encoding="utf-8")
    loader = jinja2.FileSystemLoader(shipped_templates())
    return loader.get_source(_default_environment(), str(path))[0]


def template_variables(source: str) -> list[str]:
    """Returns the names of the variables that a template needs, sorted.

    Raises:
        jinja2.TemplateSyntaxError: The source is no valid template.
    """
    return sorted(meta.find_undeclared_variables(_default_environment().parse(source)))


def shipped_templates() -> Path:
    """Returns the folder of the templates that come with this package."""
    package = Path(__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


@cache
def _default_environment() -> Environment:
    return Environment()


class _EmphasisTemplate(jinja2.Template):
    """A compiled template whose code joins, escapes and imports text without losing spans."""

    @classmethod
    def _from_namespace(
        cls,
        environment: jinja2.Environment,
        namespace: MutableMapping[str, Any],
        globals: MutableMapping[str, Any],
    ) -> jinja2.Template:
        # The names that compiled templates take from jinja2.runtime, and from Python.
        namespace.update(
            str=_printed,
            str_join=lambda values: concat(map(_printed, values)),
            markup_join=lambda values: markup_join(_without_emphasis(values)),
            escape=lambda value: escape(drop_emphasis(value, "autoescape")),
            Markup=lambda value: Markup(drop_emphasis(value, "autoescape")),
        )
        return super()._from_namespace(environment, namespace, globals)

    def make_module(
        self,
        vars: dict[str, Any] | None = None,
        shared: bool = False,
        locals: Mapping[str, Any] | None = None,
    ) -> TemplateModule:
        return _EmphasisModule(self, self.new_context(vars, shared, locals))

    async def make_module_async(
        self,
        vars: dict[str, Any] | None = None,
        shared: bool = False,
        locals: Mapping[str, Any] | None = None,
    ) -> TemplateModule:
        module = await super().make_module_async(vars, shared, locals)
        module.__class__ = _EmphasisModule
        return module


class _EmphasisModule(TemplateModule):
    """An imported template, which keeps its emphasis where it is printed as text."""

    def __str__(self) -> SpanStr:
        return concat(self._body_stream)


def _emphasis_template(base: type[jinja2.Template]) -> type[jinja2.Template]:
    if issubclass(_EmphasisTemplate, base):
        return _EmphasisTemplate
    return type(base.__name__, (_EmphasisTemplate, base), {})


def _printed(value: Any) -> str:
    """What a template prints of a value: a list or dict as Python does, without emphasis."""
    if not isinstance(value, str) and carries_emphasis(value):
        warn_dropped(f"printing a {type(value).__name__}")
    return str(value)


def _without_emphasis(values: Iterable[Any]) -> Iterator[Any]:
    return (drop_emphasis(value, "autoescape") for value in values)


def _naming_the_place(environment: jinja2.Environment) -> Callable[[str | None], NoReturn]:
    """Returns Jinja's `handle_exception`, made to say where a wrong emphasis stands."""

    def handle_exception(source: str | None = None) -> NoReturn:
        error = sys.exc_info()[1]
        if isinstance(error, EmphasisError):
            place = ""
            for frame, line in walk_tb(error.__traceback__):
                template = frame.f_globals.get("__jinja_template__")
                if template is not None:
                    name = template.name or "<template>"
                    place = f"{name}, line {template.get_corresponding_lineno(line)}: "
            error.args = (f"{place}{error}",)
        type(environment).handle_exception(environment, source)

    return handle_exception


def _advice(tag: str) -> str:
    if _OUR_TAG.fullmatch(tag):
        return f"The tag <% {tag} is not closed by %>."
    return (
        f"Unknown tag <% {tag} %>. The tags are emphasize, endemphasize, deemphasize and "
        "enddeemphasize; write {% raw %}…{% endraw %} around text that is no tag."
    )


def _parse_arguments(parser: Parser, tag: str) -> Iterator[nodes.Keyword]:
    while parser.stream.current.type != "block_end":
        name = parser.stream.expect("name")
        if name.value not in ("alpha", "name"):
            parser.fail(f"{tag} takes alpha=… and name=…, not {name.value!r}.", name.lineno)
        parser.stream.expect("assign")
        yield nodes.Keyword(name.value, parser.parse_expression(), lineno=name.lineno)
        parser.stream.skip_if("comma")


def _loop_exits(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    """Finds each `{% break %}` or `{% continue %}` whose loop lies around the body."""
    for node in body:
        if isinstance(node, nodes.Break | nodes.Continue):
            yield node
        inner = node.else_ if isinstance(node, nodes.For) else node.iter_child_nodes()
        yield from _loop_exits(inner)


def _tag_or_code(environment: jinja2.Environment) -> re.Pattern[str]:
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
    return re.compile(
        rf"{note}.*?(?:{end_note}|\Z)"
        rf"|{block}[-+]?\s*raw\s*-?{end_block}.*?{block}[-+]?\s*endraw\s*[-+]?{end_block}"
        rf"|{block}(?:{string}|(?!{end_block})[^\"'])*+{end_block}"
        rf"|{print_}(?:{string}|(?!{end_print})[^\"'])*+{end_print}"
        rf"|<%(?P<inside>[-+]?\s*(?:end)?(?:de)?emphasize\b(?:{string}|(?!%>)[^\"'])*+)%>"
        r"|<%[-+]?\s*(?P<wrong>(?i:(?:end)?(?:de)?emphasi[sz]\w*))",
        re.DOTALL,
    )
