"""Imports point one way, as docs/architecture.md says, and importing or recognising loads nothing that it does not need."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "hvisk"
TRAINING_ONLY = {"torch", "transformers", "datasets", "accelerate"}
ROWS = re.findall(
    r"^\| `([a-z0-9_.]+)` \|", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE
)


def modules() -> dict[str, Path]:
    found = {p.relative_to(SOURCE).with_suffix("").as_posix().replace("/", "."): p for p in SOURCE.rglob("*.py")}
    return {name: path for name, path in found.items() if not name.endswith("__init__")}


def imported(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, by full name; for `from hvisk import x` it is hvisk.x."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name.removeprefix("hvisk.") in modules() else str(node.module) for name in inside)


def test_the_table_lists_every_module_once() -> None:
    assert sorted(ROWS) == sorted(modules())


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_from_the_rows_above_it(name: str) -> None:
    above = set(ROWS[: ROWS.index(name)])
    used = {m.removeprefix("hvisk.") for m in imported(modules()[name]) if m.startswith("hvisk.")}
    assert used <= above, f"{name} imports {sorted(used - above)}, which stand below it in docs/architecture.md"


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_training_imports_what_only_training_needs(name: str) -> None:
    roots = {module.partition(".")[0] for module in imported(modules()[name])}
    assert name.startswith("train.") or name == "systems.transformers" or not roots & TRAINING_ONLY


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after `code`."""
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.splitlines())


def test_importing_hvisk_and_asking_for_help_load_next_to_nothing() -> None:
    assert {m for m in loaded_after("import hvisk") if m.startswith("hvisk")} == {"hvisk"}
    heavy = {"numpy", "ctranslate2", "onnxruntime", "huggingface_hub", "pyarrow", "av", "soundfile", "logging.config"}
    for arguments in (["--help"], ["--version"], ["transcribe", "--help"]):
        code = f"import sys; sys.argv[1:] = {arguments!r}\nimport hvisk.cli\ntry: hvisk.cli.main()\nexcept SystemExit: pass"
        assert not loaded_after(code) & (heavy | TRAINING_ONLY), arguments


def test_everything_outside_training_works_where_torch_cannot_be_imported() -> None:
    # Blocked rather than looked for: CTranslate2 imports torch by itself where it is installed, to take its tensors too.
    block = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {TRAINING_ONLY!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
"""
    names = [f"hvisk.{name}" for name in ROWS if not name.startswith("train.")]
    assert set(names) <= loaded_after(f"{block}\nimport {', '.join(names)}")
