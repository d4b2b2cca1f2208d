"""What compiled templates take from Jinja's runtime, made to keep spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, optimizeconst
from jinja2.environment import TemplateModule, TemplateStream
from jinja2.runtime import BlockReference, Context, Macro, TemplateReference, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import internalcode
from markupsafe import Markup

from pasta_chains.markup import SpanMarkup, escape, join_markup, markup
from pasta_chains.spans import SpanStr, carries_emphasis, concat, span_count, warn_dropped

T = TypeVar("T")


class EmphasisTemplate(jinja2.Template):
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
            markup_join=lambda values: join_markup(map(_noticed, values)),
            escape=_escaped,
            Markup=markup,
            Macro=EmphasisMacro,
            TemplateReference=_Blocks,
        )
        return super()._from_namespace(environment, namespace, globals)

    def render(self, *args: Any, **kwargs: Any) -> SpanStr:
        return _tracked(super().render(*args, **kwargs))

    async def render_async(self, *args: Any, **kwargs: Any) -> SpanStr:
        return _tracked(await super().render_async(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> TemplateStream:
        return _EmphasisStream(self.generate(*args, **kwargs))

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


def join_printed(pieces: Iterable[str]) -> str:
    """Joins what a template, or a block of it, prints; into a plain `str` where it has no spans."""
    if type(pieces) is not list:
        pieces = list(pieces)
    if len(pieces) == 1 and type(pieces[0]) is str:  # many blocks hold one value and no more
        return pieces[0]
    return "".join(pieces) if _PLAIN.issuperset(map(type, pieces)) else concat(pieces)


def _tracked(text: str) -> SpanStr:
    return text if isinstance(text, SpanStr) else SpanStr(text)


class _EmphasisStream(TemplateStream):
    """The pieces of a rendered template, several at a time."""

    def _buffered_generator(self, size: int) -> Iterator[str]:
        pieces: list[str] = []
        for piece in self._gen:
            pieces.append(piece)
            if sum(map(bool, pieces)) >= size:
                yield concat(pieces)
                pieces = []
        if any(pieces):
            yield concat(pieces)


class _EmphasisModule(TemplateModule):
    """An imported template, which keeps its emphasis where it is printed as text."""

    def __str__(self) -> SpanStr:
        return concat(self._body_stream)

    def __html__(self) -> Any:
        return markup(concat(self._body_stream))


class EmphasisMacro(Macro):
    """A macro, or the body of a call block."""

    def _invoke(self, arguments: list[Any], autoescape: bool) -> Any:
        if self._environment.is_async:
            return self._async_invoke(arguments, autoescape)
        text = self._func(*arguments)
        return markup(text) if autoescape else text

    async def _async_invoke(self, arguments: list[Any], autoescape: bool) -> Any:
        text = await self._func(*arguments)  # type: ignore[misc]  # typed as if never async
        return markup(text) if autoescape else text


class _Block(BlockReference):
    """A block that a template prints again, as `self.name()` or `super()`."""

    @property
    def super(self) -> Any:
        return _block(super().super)

    def __call__(self) -> Any:
        if self._context.environment.is_async:
            return self._async_call()
        return self._printed(self._stack[self._depth](self._context))

    async def _async_call(self) -> Any:
        pieces = self._stack[self._depth](self._context)
        return self._printed([piece async for piece in pieces])  # type: ignore[attr-defined]  # as above

    def _printed(self, pieces: Iterator[str] | list[str]) -> Any:
        text = concat(pieces)
        return markup(text) if self._context.eval_ctx.autoescape else text


class _Blocks(TemplateReference):
    """The `self` of a template."""

    def __getitem__(self, name: str) -> Any:
        return _block(super().__getitem__(name))


class EmphasisContext(Context):
    """The variables of a template, `super` of its blocks, and what the template calls."""

    @internalcode
    def call(__self, __obj: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: N805  (names of arguments may be self)
        # A plain string cannot take in emphasized pieces, as in {{ ", ".join(documents) }}.
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", None)
        if isinstance(owner, str) and type(owner) in _PLAIN_TEXT and name in ("join", "replace"):
            kind = SpanStr if type(owner) is str else SpanMarkup
            __obj = getattr(kind(owner), name)
        return super().call(__obj, *args, **kwargs)

    def super(self, name: str, current: Callable[[Context], Iterator[str]]) -> Any:
        return _block(super().super(name, current))


def _block(found: BlockReference | Undefined) -> Any:
    if not isinstance(found, BlockReference):
        return found
    return _Block(found.name, found._context, found._stack, found._depth)


class EmphasisGenerator(CodeGenerator):
    """Compiles the operators that must keep spans, or say that they drop them, into calls.

    A `SpanStr` does not hear of it when it stands in a tuple or dict to the right of a %, or to
    the right of escaped text and a +.
    """

    @optimizeconst
    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802  (Jinja's name)
        self._operate(node, frame)

    @optimizeconst
    def visit_Mod(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802  (Jinja's name)
        self._operate(node, frame)

    def _operate(self, node: nodes.BinExpr, frame: Frame) -> None:
        environment = self.environment
        if isinstance(environment, SandboxedEnvironment) and (
            node.operator in environment.intercepted_binops
        ):
            self.write(f"environment.call_binop(context, {node.operator!r}, ")
        else:
            self.write(f"environment.emphasis_operators[{node.operator!r}](")
        self.visit(node.left, frame)
        self.write(", ")
        self.visit(node.right, frame)
        self.write(")")


def noted_operands(operation: str, left: Any, right: Any) -> tuple[Any, Any]:
    """The operands of + so that none loses emphasis; those of % without it, with a warning."""
    if not isinstance(left, str):
        return left, right
    if operation == "+":
        if isinstance(right, str) and span_count(left) + span_count(right):
            left, right = (SpanMarkup(x) if type(x) is Markup else x for x in (left, right))
    elif operation == "%" and not isinstance(left, SpanStr) and carries_emphasis(right):
        warn_dropped("the % operator")
        right = right.text if isinstance(right, SpanStr) else right
    return left, right


def _add(left: Any, right: Any) -> Any:
    left, right = noted_operands("+", left, right)
    return left + right


def _modulo(left: Any, right: Any) -> Any:
    left, right = noted_operands("%", left, right)
    return left % right


OPERATORS = {"+": _add, "%": _modulo}
"""What stands in the place of Python's operators in a compiled template."""


def emphasis_class(base: type[T], ours: type[T]) -> type[T]:
    """Returns `ours`, on top of the class that an environment had chosen."""
    return ours if issubclass(ours, base) else type(base.__name__, (ours, base), {})


_PLAIN = frozenset({str})
_PLAIN_TEXT = frozenset({str, Markup})

# Text prints as it is, and a number holds none.
_WITHOUT_TEXT = (str, int, float)
_TEXT = frozenset({str, SpanStr})


def _noticed(value: Any) -> Any:
    """The value; with a warning if it is a list or dict, which print without spans."""
    if not isinstance(value, _WITHOUT_TEXT) and carries_emphasis(value):
        warn_dropped(f"printing a {type(value).__name__}")
    return value


def _printed(value: Any) -> str:
    if type(value) in _TEXT:
        return value  # type: ignore[no-any-return]  # it is one of them
    return str(_noticed(value))


def _escaped(value: Any) -> str:
    return escape(_noticed(value))


# A template can print these, and then shows the name of the class.
EmphasisMacro.__name__ = Macro.__name__
_Blocks.__name__ = TemplateReference.__name__
_EmphasisModule.__name__ = TemplateModule.__name__
