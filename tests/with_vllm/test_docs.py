"""What docs/how-to/vllm.md shows of vLLM itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest
from conftest import Served
from models import EMBEDDED

from pasta_chains.profile import FILE_NAME

STEERED = "pasta_chains:steered_requests"
PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "vllm.md").read_text(encoding="utf-8")


def block(start: str) -> str:
    """The only block that starts like that, its fence included."""
    (found,) = re.findall(rf"^```({start}.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_a_program_of_ones_own(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED, tmp_path / EMBEDDED.name)  # which the profile is of
    shutil.copy(EMBEDDED / FILE_NAME, tmp_path / "heads.json")
    _, code = block('python title="where vLLM is installed"').split("\n", 1)
    (tmp_path / "program.py").write_text(
        # vLLM's own processes import the program again.
        f'if __name__ == "__main__":\n{indent(code.replace("MODEL", EMBEDDED.name), "    ")}\n'
    )
    run = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},  # gigabytes; vLLM takes half of all
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert re.findall(r"^# > (.*)$", code, re.MULTILINE)[0] in run.stdout.splitlines()


@pytest.mark.parametrize("served", ["compiled, embedded"], indirect=True)
def test_curl(served: Served) -> None:
    _, command = block("sh\ncurl").split("\n", 1)
    asked = command.replace("http://localhost:8000", served.server.url)
    asked = asked.replace('"MODEL"', '"served"').replace("curl ", "curl --fail --silent ", 1)
    before = served.server.counter(STEERED)
    run = subprocess.run(asked, shell=True, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert '"choices"' in run.stdout
    assert served.server.counter(STEERED) == before + 1
