"""Runs the shell commands of the documentation, as far as a test can."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import httpx
import pytest
from transformers import LlamaConfig

from pasta_chains import cli
from pasta_chains.vllm.settings import Settings
from pasta_chains.wire import KEY, Emphasis

ROOT = Path(__file__).parent.parent
PROGRAMS = ("pasta-chains", "pip", "make", "python", "curl", "vllm", "ray")
_WRITTEN = '#!/bin/bash\nprintf "%s\\0" "${0##*/}" "$@" END >> "$SAID"\n'


def commands(block: str, folder: Path) -> Iterator[list[str]]:
    """The words of each command of a block, as bash reads them.

    Raises:
        CalledProcessError: It calls a program that is not of `PROGRAMS`.
    """
    programs = folder / ".venv" / "bin"
    if not programs.is_dir():
        programs.mkdir(parents=True)
        for name in PROGRAMS:
            (programs / name).write_text(_WRITTEN)
            (programs / name).chmod(0o755)
    said = folder / "said"
    said.write_text("")
    environment = {"PATH": str(programs), "SAID": str(said)}
    subprocess.run(["/bin/bash", "-ec", block], cwd=folder, env=environment, check=True)
    words: list[str] = []
    for word in said.read_text(encoding="utf-8").split("\0")[:-1]:
        if word == "END":
            yield words
            words = []
        else:
            words.append(word)


class Shell:
    """What stands for each program: the command line itself in this process, or a check."""

    def __init__(
        self,
        folder: Path,
        server: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.folder = folder
        self.server = server
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def run(self, block: str) -> None:
        """Run each command of a block, or check it."""
        for program, *arguments in commands(block, self.folder):
            getattr(self, f"_{program.replace('-', '_')}")(arguments)

    def _pasta_chains(self, arguments: list[str]) -> None:
        def start(*_: object, **__: object) -> NoReturn:
            raise SystemExit(0)

        self.monkeypatch.setattr(sys, "argv", ["pasta-chains", *arguments])
        self.monkeypatch.setattr("os.execv", start)
        self.monkeypatch.setattr("pasta_chains.vllm.serve.find_spec", lambda name: object())
        self.monkeypatch.setattr("pasta_chains.playground.launch", start)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = self.capsys.readouterr().err
        # A random model does the paper's tasks wrong, which is told after they were asked.
        assert not ended.value.code or "does the whole task" in told, (arguments, told)

    def _pip(self, arguments: list[str]) -> None:
        """The wheel is tried with each extra by `make test-wheel`."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        assert arguments[0] == "install"
        for wanted in arguments[1:]:
            found = re.fullmatch(r"(?:pasta-chains|\.)(?:\[([\w,-]+)\])?", wanted)
            assert found, wanted
            extras = set((found[1] or "all").split(","))
            assert extras <= project["optional-dependencies"].keys()

    def _make(self, arguments: list[str]) -> None:
        targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert set(arguments) <= {name for line in targets for name in line.split()}

    def _python(self, arguments: list[str]) -> None:
        """Scripts take long: they are asked whether they have these options."""
        script = next(i for i, word in enumerate(arguments) if word.endswith(".py") or word == "-m")
        start = arguments[: script + (2 if arguments[script] == "-m" else 1)]
        rest = arguments[len(start) :]
        sub = rest[:1] if rest and not rest[0].startswith("-") else []
        told = subprocess.run(
            [sys.executable, *start, *sub, "--help"],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for word in rest:
            assert not word.startswith("--") or re.search(rf"{word}(?![\w-])", told), word

    def _curl(self, arguments: list[str]) -> None:
        """tests/with_vllm sends texts to a server; here their emphasis is read."""
        if "-d" not in arguments:
            url = arguments[-1].replace("http://localhost:8000", self.server)
            assert httpx.get(url).status_code == 200
            return
        body = json.loads(arguments[arguments.index("-d") + 1])
        emphasis = Emphasis.parse(body["vllm_xargs"][KEY])
        assert all(end <= len(body["prompt"]) for _, end, *_ in emphasis.spans)

    def _vllm(self, arguments: list[str]) -> None:
        """The tests of the plugin start servers; here its settings are read."""
        given = json.loads(arguments[arguments.index("--additional-config") + 1])
        config = SimpleNamespace(hf_text_config=LlamaConfig(), model="MODEL")
        assert Settings.of(SimpleNamespace(additional_config=given, model_config=config))

    def _ray(self, arguments: list[str]) -> None:
        """Several machines were not tried."""
        assert arguments[0] == "start"
