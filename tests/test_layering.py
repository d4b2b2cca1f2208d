"""Each part knows only what lies below it, and importing the package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pasta_chains

ROOT = Path(pasta_chains.__file__).parent
# Lowest first. A part may import parts of the lines below it, and, where named so, of its own line.
LAYERS = [
    ["errors"],
    ["_span", "_show"],
    ["spans"],
    ["markup", "substitute", "_source"],
    ["_filters", "_runtime"],
    ["template", "tokens"],
    ["_chat_environment"],
    ["chat", "profile", "selection", "variables"],
    ["control", "overflow", "arithmetic", "default_profile", "cache"],
    ["untrusted", "context", "chat_blocks", "wire"],
    [
        "prompts",
        "attention",
        "streaming",
        "sampling",
        "structured",
        "adapters",
        "shares",
        "logprobs",
    ],
    ["masking", "inputs", "tool_formats", "asked"],
    ["steerable", "generation", "loading", "inspection", "scoring", "tool_calls"],
    ["requests", "heads", "tool_use", "emphasis_model"],
    ["engine"],
    ["remote"],
    [""],  # the package itself, for those who use it from outside
    ["evaluation", "langchain", "llama_index", "report", "vllm"],
    ["profiling"],
    ["demo"],
    ["playground"],
    ["cli"],
    ["__main__"],
]
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
HEAVY = {"torch", "transformers", "tokenizers", "safetensors"}
FRAMEWORKS = {"langchain_core", "langchain", "llama_index"}
NO_TORCH = [
    *("errors", "_span", "_show", "spans", "markup", "substitute", "_source", "_filters"),
    *("_runtime", "template", "tokens", "_chat_environment", "chat", "profile", "overflow"),
    "default_profile",
]


def part_of(file: Path) -> str:
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if part == "__init__" else part


def imports(file: Path) -> set[str]:
    """Absolute names of all that a file imports, in functions too, but not for types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    package = ["pasta_chains", *file.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def parts_imported(file: Path) -> set[str]:
    """Parts of this package that a file imports, its own part left out."""
    found = set()
    for name in imports(file):
        package, _, rest = name.partition(".")
        if package == "pasta_chains":
            part = rest.partition(".")[0]
            exists = (ROOT / part).is_dir() or (ROOT / f"{part}.py").is_file()
            found.add(part if exists else "")
    return found - {part_of(file)}


FILES = sorted(ROOT.rglob("*.py"))


def test_the_files_are_found_and_each_has_its_layer() -> None:
    assert {"spans", "engine", "langchain"} <= {part_of(file) for file in FILES}
    homeless = {part_of(file) for file in FILES} - LAYER.keys()
    assert not homeless, f"give {homeless} a line in LAYERS and in design.md's layout"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_part_imports_only_what_lies_below_it(file: Path) -> None:
    above = {part for part in parts_imported(file) if LAYER.get(part, 99) >= LAYER[part_of(file)]}
    assert above == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_part_imports_only_the_packages_it_may(file: Path) -> None:
    part = part_of(file)
    packages = {name.partition(".")[0] for name in imports(file)}
    if part in NO_TORCH:
        assert not packages & (HEAVY | FRAMEWORKS)
    if part in ("errors", "_span", "spans", "tokens", "profile"):
        assert packages <= {*sys.stdlib_module_names, "pasta_chains", "rich"}
    if part == "langchain":
        assert "llama_index" not in packages
    if part == "llama_index":
        assert not packages & {"langchain_core", "langchain"}
    if part in ("langchain", "llama_index"):
        assert not parts_imported(file) & {"attention", "langchain", "llama_index"}
    elif part not in ("demo", "cli", "vllm"):
        assert not packages & FRAMEWORKS


def test_the_graph_is_read_from_all_kinds_of_import() -> None:
    assert {"emphasis_model", "errors", "streaming"} <= parts_imported(ROOT / "engine.py")
    assert "errors" in parts_imported(ROOT / "spans.py")
    assert "remote" in parts_imported(ROOT / "__init__.py")  # inside a function
    assert "rich.text.Text" in imports(ROOT / "_show.py")
    assert "torch" in {name.partition(".")[0] for name in imports(ROOT / "attention.py")}


@pytest.mark.parametrize(
    "steps",
    [
        [
            ("import pasta_chains; pasta_chains.render('a'); pasta_chains.HeadProfile({})",
             HEAVY | FRAMEWORKS | {"rich"}),
            ("import pasta_chains.chat, pasta_chains.tokens", HEAVY | FRAMEWORKS),
            ("from pasta_chains import SteeredModel, Generation", FRAMEWORKS),
            ("import pasta_chains.demo.opening, pasta_chains.report", FRAMEWORKS | {"bm25s"}),
            ("import pasta_chains.langchain", {"llama_index"}),
        ],
        [("import pasta_chains.llama_index", {"langchain_core"})],
    ],
    ids=["from the package to langchain", "llama_index"],
)  # fmt: skip
def test_each_import_loads_no_more_than_it_needs(steps: list[tuple[str, set[str]]]) -> None:
    code = "import sys\n" + "\n".join(
        f"{statement}\nprint(*(sys.modules.keys() & {absent!r}))" for statement, absent in steps
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "\n" * len(steps)


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    for name in pasta_chains.__all__:
        assert getattr(pasta_chains, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = pasta_chains.nothing
