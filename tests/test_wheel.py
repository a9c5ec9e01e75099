"""The wheel, installed and used outside the checkout: package data, entry point, extras."""

import email
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # The machine has the builder already; an isolated build would download it again.
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed `hvisk` in an empty folder; its dependencies are those of this environment."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(pip, check=True)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(site), "HVISK_CACHE": str(folder / "cache")}
        command = [sys.executable, str(site / "bin" / "hvisk"), *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    found = subprocess.run(
        [sys.executable, "-c", "import hvisk; print(hvisk.__file__)"],
        env={**os.environ, "PYTHONPATH": str(site)}, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(
        site
    )  # the checkout is installed too: it must not be what is tested
    return run


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("hvisk/")}
    source = ROOT / "src"
    tracked = {p.relative_to(source).as_posix() for p in (source / "hvisk").rglob("*") if p.is_file()}
    assert inside == {name for name in tracked if "__pycache__" not in name}
    assert {"hvisk/py.typed", "hvisk/recipes/demo.toml", "hvisk/corpora/danish.txt", "hvisk/report/page.css"} <= inside


def test_the_metadata_names_the_extras_and_keeps_torch_out_of_the_core(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(name))
    assert {"train", "demo"} <= set(about.get_all("Provides-Extra") or ())
    core = [line for line in about.get_all("Requires-Dist") or () if "extra ==" not in line]
    assert core
    assert not [line for line in core if line.startswith(("torch", "transformers", "accelerate", "espeakng"))]


def test_the_installed_command_walks_from_speech_to_text(
    installed: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    from hvisk import __version__

    assert installed("--version").stdout == f"{__version__}\n"
    sizes = ("--clips", "8", "--validation-clips", "8", "--test-clips", "12", "--workers", "1")
    made = installed("prepare", "synthetic", "--out", "corpus", *sizes)
    assert made.returncode == 0, made.stderr
    scored = installed("evaluate", "hvisk:demo-base", "--on", "corpus/test", "--json")
    assert scored.returncode == 0, scored.stderr
    assert '"clips": 12' in scored.stdout
