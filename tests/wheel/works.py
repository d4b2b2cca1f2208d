"""Uses what an extra brought, and asks for what it did not: `python works.py EXTRA`.

`check.py` runs it in an environment that has the wheel with that extra and nothing else. It needs
this checkout only for the scripts of the documentation and for the stand-in for a server.
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points, requires
from pathlib import Path

from packaging.requirements import Requirement

import pasta_chains
from pasta_chains import HeadProfile, MissingExtraError, SpanStr, SteeredModel, connect
from pasta_chains.demo import MODEL

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("pasta-chains")
INSTRUCTION = (
    *("--set", "instruction=Be brief.", "--set", "documents=[]"),
    *("--set", "question=Who?"),
)
BRIDGE = "The color of the bridge is "


@dataclass(frozen=True)
class Feature:
    """What an extra is for.

    Attributes:
        ask: Fails without the extra, in the way that a user meets first.
        use: Does the real thing, and fails if it does it wrong.
    """

    ask: Callable[[], object]
    use: Callable[[], object]


@cache
def model() -> SteeredModel:
    """The embedded model."""
    return SteeredModel.from_pretrained(MODEL)


def command(*arguments: str) -> str:
    """What the installed command prints."""
    done = subprocess.run([str(COMMAND), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"pasta-chains {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def script(name: str) -> Callable[[], None]:
    """A script of docs/, which prints what it says that it prints."""

    def run() -> None:
        file, printed = ROOT / "docs" / name, io.StringIO()
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(file), run_name="__main__")
        shown = re.findall(r"^# > (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        assert printed.getvalue().splitlines() == shown, printed.getvalue()

    return run


def two_documents(red: bool) -> SpanStr:
    """A prompt with two documents, the one or the other emphasized."""
    documents = [
        {"text": f"{BRIDGE}{color}.", "trusted": red is (color == "red")}
        for color in ("red", "blue")
    ]
    template = pasta_chains.Environment().get_template("rag/qa.jinja")
    text = template.render(documents=documents, question="What is the color of the bridge?")
    assert isinstance(text, SpanStr)
    return text


def package() -> None:
    """The package without extras: what lies in it, its commands, and a steered answer."""
    assert Path(pasta_chains.__file__).is_relative_to(sys.prefix)
    assert command("--version").strip() == pasta_chains.__version__
    assert "Be brief." in command("render", "rag/instruction.jinja", *INSTRUCTION)
    assert HeadProfile.for_model("huggyllama/llama-7b").heads
    (plugin,) = entry_points(group="vllm.general_plugins", name="pasta_chains")
    assert callable(plugin.load())
    for red in (True, False):
        answer = model().generate(two_documents(red), max_new_tokens=20)
        assert ("red" if red else "blue") in answer, answer


def select() -> None:
    """The sentence that answers a question."""
    from pasta_chains.selection import emphasize_sentences

    text = "The mill of Tarn is red. It stands by the river. The mill of Tarn opened in 1903."
    marked = emphasize_sentences("When was the mill of Tarn opened?", text)
    assert marked.emphasized() == ("The mill of Tarn opened in 1903.",)


def choose() -> None:
    """One of several answers."""
    from pasta_chains.structured import Structure

    one_of = Structure.choice(["It is green.", "It is brown."])
    answer = model().generate(two_documents(True), structure=one_of)
    assert answer in ("It is green.", "It is brown."), answer


def ask_server() -> None:
    """An answer over HTTP."""
    sys.path.append(str(ROOT / "tests"))
    from fake_server import fake_server

    prompt = two_documents(True)
    with fake_server(model()) as server:
        remote = connect(server.url)
        assert remote.generate(prompt, max_new_tokens=20) == model().generate(
            prompt, max_new_tokens=20
        )
        remote.close()


def evaluate() -> None:
    """A table and a figure."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ("pasta-reader", "--task", "documents", "--samples")
        assert "steered" in command("evaluate", *asked, "2", "--examples", "0", "--out", folder)
        found = ("--out", f"{folder}/heads.json", "--layers", "1", "--k", "1")
        command("profile", *asked, "20", *found, "--plots", f"{folder}/figures")
        assert any(Path(folder, "figures").iterdir())
    import_module("datasets")


def show() -> None:
    """The page in the browser."""
    from urllib.request import urlopen

    import gradio

    from pasta_chains.playground import launch

    url = launch(model, block=False)
    with urlopen(url) as page:
        assert b"pasta_chains" in page.read()
    gradio.close_all()


FEATURES = {
    "langchain": Feature(
        lambda: import_module("pasta_chains.langchain"), script("how-to/langchain/chain.py")
    ),
    "llama-index": Feature(
        lambda: import_module("pasta_chains.llama_index"),
        script("how-to/llama_index/query_engine.py"),
    ),
    "agents": Feature(
        lambda: import_module("pasta_chains.langchain.agents"), script("how-to/langchain/agent.py")
    ),
    "selection": Feature(select, select),
    "structured": Feature(choose, choose),
    "remote": Feature(lambda: connect("http://localhost:1"), ask_server),
    "demo": Feature(
        lambda: import_module("pasta_chains.demo.run"),
        lambda: command("demo", "--questions", "1"),
    ),
    "ui": Feature(lambda: import_module("pasta_chains.playground"), show),
    "evaluation": Feature(lambda: import_module("pasta_chains.evaluation.run"), evaluate),
}


def brought(extra: str) -> set[str]:
    """The packages that an extra asks for, those of other extras included."""
    asked = map(Requirement, requires("pasta-chains") or [])
    return {
        one.name
        for one in asked
        if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate()
    }


def refused(extra: str, ask: Callable[[], object]) -> None:
    """Check that what is missing is named."""
    missing = None
    try:
        ask()
    except MissingExtraError as error:
        missing = error.extra
    assert missing, f"{extra} is not installed, and nothing said so"
    # An extra may be a part of another one, whose absence is noticed first.
    assert brought(missing) <= brought(extra), f"{extra} is not installed, and {missing} was named"


def serve() -> None:
    """A server, whose package is too large for this: `make test-vllm` starts some."""
    from pasta_chains.vllm.serve import serve as start

    start(str(MODEL), None, [])


def main(installed: str = "") -> None:
    """Try everything."""
    package()
    refused("vllm", serve)
    print(f"{installed or 'no extra'}: the package works", flush=True)
    for extra, feature in FEATURES.items():
        if brought(extra) <= brought(installed):
            feature.use()
            print(f"{installed or 'no extra'}: {extra} works", flush=True)
        else:
            refused(extra, feature.ask)


if __name__ == "__main__":
    main(*sys.argv[1:])
