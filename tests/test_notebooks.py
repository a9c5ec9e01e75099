"""The notebooks for Kaggle and Colab are what the template makes; run for real, small, one goes on where the other stopped."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
RECIPE = """
out = "runs/tiny"
train = ["corpora/synthetic/train"]
validation = "corpora/synthetic/validation"
base = "hvisk:demo-base"
steps = 1
batch_seconds = 60
validation_clips = 4
"""


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_notebooks", NOTEBOOKS / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_notebooks_are_what_the_template_makes(make: ModuleType) -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(make.PLACES)
    for place in make.PLACES:
        committed = (NOTEBOOKS / f"{place}.ipynb").read_text(encoding="utf-8")
        assert committed == make.notebook(place), "run: make notebooks"


def test_they_have_few_cells_no_outputs_and_one_for_the_parameters() -> None:
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4)["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert len(code) <= 6
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
        assert [cell["metadata"].get("tags") for cell in code] == [["parameters"], *[None] * (len(code) - 1)]


def execute(name: str, folder: Path, cache: Path, **values: Any) -> str:
    """Run a notebook from its first cell to its last with other parameters; return all that it printed."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    first = next(i for i, cell in enumerate(notebook["cells"]) if cell["metadata"].get("tags") == ["parameters"])
    injected = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    notebook["cells"].insert(first + 1, nbformat.v4.new_code_cell(injected))
    folder.mkdir()
    cache.mkdir(exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HF_TOKEN"},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HVISK_CACHE": str(cache),
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
        "IPYTHONDIR": str(cache / "ipython"),
        "OMP_NUM_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(cache / "jupyter"))  # where the kernel's connection is written
        place = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, kernel_name="python3", timeout=240, resources=place).execute(env=environment)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for three sessions, each of which finds the files of the one before."""
    root = tmp_path_factory.mktemp("sessions")
    (root / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return root


def session(chain: Path, name: str, place: str, earlier: str, **values: Any) -> str:
    folder = chain / name
    prepare = {"synthetic": "--clips 20 --validation-clips 4 --test-clips 4 --workers 1"}
    places = {"KEEP": str(folder / "kept"), "SCRATCH": str(folder / "scratch")}
    places["EARLIER"] = str(chain / earlier) if earlier else ""
    common = {"RECIPE": str(chain / "tiny.toml"), "CODEC": "flac", "PREPARE": prepare, "CLIPS": 0}
    return execute(place, folder, chain / "cache", **common, **places, **values)


@pytest.fixture(scope="module")
def prepared(chain: Path) -> str:
    return session(chain, "prepared", "kaggle", "", TRAIN=False)


@pytest.fixture(scope="module")
def trained(chain: Path, prepared: str) -> str:
    return session(chain, "trained", "kaggle", "prepared", TESTS=["corpora/synthetic/test", "corpora/none/test"])


def test_a_session_without_a_gpu_prepares_and_no_more(chain: Path, prepared: str) -> None:
    assert "No secret HF_TOKEN" in prepared
    assert "$ hvisk prepare synthetic" in prepared
    assert "$ hvisk train" not in prepared
    assert (chain / "prepared/kept/corpora/synthetic/train/manifest.json").exists()


def test_the_next_one_takes_its_corpora_and_goes_all_the_way(chain: Path, trained: str) -> None:
    run = chain / "trained/kept/runs/tiny"
    assert "corpora/synthetic is there from an earlier session" in trained
    assert (chain / "trained/scratch/corpora/synthetic/train/00000.arrow").is_symlink()
    assert "Finished." in trained
    assert (run / "ct2/model.bin").exists()
    assert (run / "after/corpora-synthetic-test/predictions.jsonl").exists()
    assert "corpora/synthetic/test" in (run / "model/README.md").read_text("utf-8")
    assert (run / "report.html").stat().st_size > 10_000


def test_another_place_goes_on_where_it_stopped(chain: Path, trained: str) -> None:
    said = session(chain, "resumed", "colab", "trained", SETTINGS="--set steps=2", SESSION_HOURS=1.0)
    assert "runs/tiny is there from an earlier session" in said
    assert "Resuming at step 1" in said
    assert "Finished." in said
    assert (chain / "resumed/kept/runs/tiny/model/model.safetensors").exists()
    # with an hour left there is no time to measure it, which takes all that is left of the next session
    assert "Too late to measure it in this session" in said
    assert "$ hvisk export" not in said
