"""Builds the package and tries it with each extra: `python tests/wheel/check.py [EXTRA …]`.

Each extra gets an empty environment outside the checkout, where `works.py` uses what it brought.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NONE = "none"
# Its package is too large to install for each check; `make test-vllm` runs the plugin.
LEFT_OUT = {"vllm"}


def run(*command: str | Path, folder: Path) -> None:
    """Run a command, or end."""
    done = subprocess.run([str(one) for one in command], cwd=folder, check=False)
    if done.returncode:
        sys.exit(f"This failed: {' '.join(map(str, command))}")


def in_git(*folders: str) -> set[str]:
    """The files that the package is made of."""
    command = ["git", "ls-files", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def check_contents(wheel: Path, sdist: Path) -> None:
    """Check that all files are there that should be, and no other ones."""
    files = in_git("pasta_chains") | {f"pasta_chains/{one}" for one in in_git("templates")}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.endswith("/")}
    about = {name for name in packed if name.partition("/")[0].endswith(".dist-info")}
    with tarfile.open(sdist) as archive:
        sources = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    legal = ("licenses/LICENSE", "licenses/pasta_chains/profiles/NOTICE", "entry_points.txt")
    for what, wrong in {
        "missing in the wheel": files - packed,
        "not to be in the wheel": packed - about - files,
        "missing about the wheel": {
            name for name in legal if not any(one.endswith(name) for one in about)
        },
        "missing in the sdist": in_git() - sources - in_git(".ci", ".github", ".gitignore"),
    }.items():
        if wrong:
            sys.exit(f"{what}: {', '.join(sorted(wrong))}")
    print(f"wheel: {len(packed)} files; sdist: {len(sources)} files")


def try_extra(extra: str, wheel: Path) -> None:
    """Install the wheel with an extra, and use it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        pip = (python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt")
        run(*pip, "torch", folder=folder)  # alone and first, as in the Makefile
        named = "" if extra == NONE else f"[{extra}]"
        run(*pip, f"{wheel}{named}", folder=folder)
        run(python, "-m", "pip", "check", folder=folder)
        works = ROOT / "tests" / "wheel" / "works.py"
        run(python, works, *([] if extra == NONE else [extra]), folder=folder)


def main(*chosen: str) -> None:
    """Build, look inside, and try the extras that are named, or all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [NONE, *project["optional-dependencies"].keys() - LEFT_OUT]
    if unknown := {*chosen} - {*extras}:
        sys.exit(f"There is no extra {', '.join(sorted(unknown))}; there are {', '.join(extras)}.")
    built = ROOT / "dist"
    shutil.rmtree(built, ignore_errors=True)
    run(sys.executable, "-m", "build", folder=ROOT)
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    check_contents(wheel, sdist)
    for extra in chosen or sorted(extras):
        try_extra(extra, wheel)


if __name__ == "__main__":
    main(*sys.argv[1:])
