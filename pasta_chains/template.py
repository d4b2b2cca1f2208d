"""Jinja templates that remember which characters were emphasized.

`{{ x }}`, `{% for %}` and all the rest are plain Jinja. Two tags and three filters are new:

    <% emphasize %>Answer from the documents.<% endemphasize %>
    <% emphasize "strong" %>Never guess.<% endemphasize %>
    <% deemphasize alpha=0.5 %>{{ footnotes }}<% enddeemphasize %>
    {{ document | emphasize(alpha=0.1, name="trusted") }}, {{ x | deemphasize }}, {{ x | plain }}

Emphasized text is rendered to a `SpanStr`, and Jinja joins its pieces with `Environment.concat`,
which the extension replaces by one that keeps spans. Nothing is written into the text, and
nothing outlives a rendering, so threads cannot meet and no variable can forge a span.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from inspect import signature
from pathlib import Path
from traceback import walk_tb
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension
from jinja2.nativetypes import NativeEnvironment
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from markupsafe import Markup

from pasta_chains._filters import emphasis_filters
from pasta_chains._runtime import (
    OPERATORS,
    EmphasisContext,
    EmphasisGenerator,
    EmphasisTemplate,
    emphasis_class,
    join_printed,
    noted_operands,
)
from pasta_chains._source import with_block_tags, with_bold_as_tags
from pasta_chains.errors import DocumentError, EmphasisError
from pasta_chains.spans import SpanStr, drop_emphasis


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
        # Set on this one environment, of whatever class it is; overlays copy them.
        vars(environment).update(
            filters={**environment.filters, **emphasis_filters(environment.filters)},
            concat=join_printed,
            template_class=emphasis_class(environment.template_class, EmphasisTemplate),
            code_generator_class=emphasis_class(
                environment.code_generator_class, EmphasisGenerator
            ),
            emphasis_operators=OPERATORS,
            context_class=emphasis_class(environment.context_class, EmphasisContext),
            handle_exception=partial(_handle_exception, environment),
        )
        if isinstance(environment, SandboxedEnvironment):
            vars(environment)["wrap_str_format"] = partial(_wrap_str_format, environment)

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Gives `<% emphasize %>` and its kin the delimiters of the environment's blocks.

        Raises:
            jinja2.TemplateSyntaxError: A tag is misspelt or not closed, and would be printed.
        """
        source = with_block_tags(source, self.environment, name, filename)
        if getattr(self.environment, "bold", False):
            source = with_bold_as_tags(source, self.environment)
        return source

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Parses a tag into a filter block, so that it compiles like any of Jinja's own."""
        tag = next(parser.stream)
        arguments = list(_parse_arguments(parser, tag.value))
        body = parser.parse_statements((f"name:end{tag.value}",), drop_needle=True)
        for loop_exit in loop_exits(body):
            parser.fail(
                f"A loop cannot be left inside {tag.value}: its text would be lost. "
                f"Close the {tag.value} block first.",
                loop_exit.lineno,
            )
        # Jinja computes the arguments of a filter block after its body, and in its scope.
        before: list[nodes.Node] = []
        for argument in arguments:
            if not isinstance(argument.value, nodes.Const):
                kept = parser.free_identifier(argument.lineno)
                before.append(nodes.Assign(kept, argument.value, lineno=argument.lineno))
                argument.value = kept
        mark = nodes.Filter(None, tag.value, [], arguments, None, None, lineno=tag.lineno)
        return [*before, nodes.FilterBlock(body, mark, lineno=tag.lineno)]


_JINJAS_ARGUMENTS = signature(jinja2.Environment)


class Environment(ImmutableSandboxedEnvironment):
    """A sandboxed Jinja environment with emphasis, strict about undefined variables.

    It is the sandbox in which transformers renders chat templates, too: a template can neither
    reach Python's internals nor change the lists and dicts that the application passes in.

    Args:
        *arguments: Those of `jinja2.Environment`, in its order.
        templates: A folder of templates, or several. One that has the name of a shipped template
            takes its place, and may extend it as `shipped/rag/qa.jinja`.
        bold: Whether `**text**` in the source of a template is emphasis. In variables it never is.
        **options: Those of `jinja2.Environment`. By default an undefined variable is an error
            and templates are loaded from `templates` and from those shipped with this package.

    Raises:
        EmphasisError: The arguments cannot be combined.
        jinja2.TemplateNotFound: There is no such folder of templates.
    """

    def __init__(
        self,
        *arguments: Any,
        templates: str | Path | Sequence[str | Path] = (),
        bold: bool = False,
        **options: Any,
    ) -> None:
        if len(arguments) == 1:  # a folder, most likely, which Jinja would take for a delimiter
            raise EmphasisError(
                f"Say what {str(arguments[0])!r} is: templates=… or block_start_string=…"
            )
        options = _JINJAS_ARGUMENTS.bind_partial(*arguments, **options).arguments
        folders = [templates] if isinstance(templates, str | Path) else list(templates)
        if folders and "loader" in options:
            raise EmphasisError("Pass templates or a loader, not both.")
        self.bold = bold
        options.setdefault("undefined", jinja2.StrictUndefined)
        options.setdefault("loader", _loader(folders))
        options["extensions"] = [EmphasizeExtension, *options.get("extensions", ())]
        super().__init__(**options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        left, right = noted_operands(operator, left, right)
        return super().call_binop(context, operator, left, right)


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
        DocumentError: The file is not UTF-8 text.
    """
    environment, name = _environment_of(path)
    assert environment.loader is not None  # every Environment has one
    with _explained(path):
        return environment.loader.get_source(environment, name)[0]


def load_template(path: str | Path, *, bold: bool = False) -> jinja2.Template:
    """Loads a template file, which may include its neighbours, or a shipped template.

    Raises:
        jinja2.TemplateError: There is neither, or the template is wrong.
        DocumentError: The file is not UTF-8 text.
    """
    environment, name = _environment_of(path, bold=bold)
    with _explained(path):
        return environment.get_template(name)


def _environment_of(path: str | Path, *, bold: bool = False) -> tuple[Environment, str]:
    """An environment that has a template file or a shipped template, and its name there."""
    file = Path(path)
    if file.is_file():
        return Environment(templates=file.parent, bold=bold), file.name
    return Environment(bold=bold), str(path)


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DocumentError(f"The template {path} is not UTF-8 text: {error}") from error
    except jinja2.TemplateNotFound as error:
        root = shipped_templates()
        names = sorted(found.relative_to(root).as_posix() for found in root.rglob("*.jinja"))
        raise jinja2.TemplateNotFound(
            str(path),
            f"There is no template file {path}, and no shipped template of that name. "
            f"Those are: {', '.join(names)}.",
        ) from error


def template_variables(source: str, environment: jinja2.Environment | None = None) -> list[str]:
    """Returns the names of the variables that a template needs, sorted.

    Args:
        source: The template's.
        environment: Where it is rendered; by default an `Environment`.

    Raises:
        jinja2.TemplateSyntaxError: The source is no valid template.
    """
    parsed = (environment or _default_environment()).parse(source)
    return sorted(meta.find_undeclared_variables(parsed))


def shipped_templates() -> Path:
    """Returns the folder of the templates that come with this package."""
    package = Path(__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def _loader(folders: Sequence[str | Path]) -> jinja2.BaseLoader:
    for folder in folders:
        if not Path(folder).is_dir():
            raise jinja2.TemplateNotFound(
                str(folder), f"There is no folder {str(folder)!r} to load templates from."
            )
    shipped = jinja2.FileSystemLoader(shipped_templates())
    own = [jinja2.FileSystemLoader(folder) for folder in folders]
    return jinja2.ChoiceLoader([*own, shipped, jinja2.PrefixLoader({"shipped": shipped})])


@cache
def _default_environment() -> Environment:
    return Environment()


def _handle_exception(environment: jinja2.Environment, source: str | None = None) -> NoReturn:
    """Does what Jinja does with an error, and has it say where the template went wrong."""
    error = sys.exc_info()[1]
    if isinstance(error, EmphasisError):
        place = _place_of(error)
        error.args = (f"{place}: {error}" if place else str(error),)
    elif isinstance(error, jinja2.UndefinedError):
        error.add_note(_place_of(error))  # Jinja's own message stays as it is
    type(environment).handle_exception(environment, source)


def _wrap_str_format(environment: SandboxedEnvironment, value: Any) -> Callable[..., str] | None:
    """Does what the sandbox does with `str.format`, which drops emphasis, with a warning."""
    if type(value) is str:  # the sandbox asks about every attribute: most of them are plain text
        return None
    wrapped = type(environment).wrap_str_format(environment, value)
    if wrapped is None or not isinstance(value.__self__, SpanStr):
        return wrapped
    bare = drop_emphasis(value.__self__, "str.format")
    bare = Markup(bare) if isinstance(value.__self__, Markup) else bare
    made = type(environment).wrap_str_format(environment, getattr(bare, value.__name__))
    vars(made)["__wrapped__"] = value  # whose text it is
    return made


def _place_of(error: BaseException) -> str:
    """The innermost template in an error's traceback, and its line."""
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        template = frame.f_globals.get("__jinja_template__")
        if template is not None:
            name = template.name or "<template>"
            place = f"{name}, line {template.get_corresponding_lineno(line)}"
    return place


def _parse_arguments(parser: Parser, tag: str) -> Iterator[nodes.Keyword]:
    stream = parser.stream
    given: set[str] = set()
    while stream.current.type != "block_end":
        line = stream.current.lineno
        named = stream.look().type == "assign"
        if not named and given:
            parser.fail(f"{tag} takes a strength first, then alpha=… and name=….", line)
        # A strength may stand first, without its name.
        name = stream.expect("name").value if named else "alpha"
        if name not in ("alpha", "name"):
            parser.fail(f"{tag} takes alpha=… and name=…, not {name!r}.", line)
        if name in given:
            parser.fail(f"{tag} got {name} twice.", line)
        given.add(name)
        if named:
            stream.expect("assign")
        yield nodes.Keyword(name, parser.parse_expression(), lineno=line)
        stream.skip_if("comma")


def loop_exits(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    """Finds each `{% break %}` or `{% continue %}` whose loop lies around the body."""
    for node in body:
        if isinstance(node, nodes.Break | nodes.Continue):
            yield node
        inner = node.else_ if isinstance(node, nodes.For) else node.iter_child_nodes()
        yield from loop_exits(inner)
