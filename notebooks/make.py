"""Write kaggle.ipynb and colab.ipynb, both from template.py.jinja: `make notebooks`.

The template is a script whose cells begin with `# %%`; what is in braces there is said here, once for each place.
"""

import sys
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from nbformat import v4

HERE = Path(__file__).parent

TESTS = ["coral", "coral-conversation", "ftspeech", "fleurs", "common-voice", "nst"]

PLACES: dict[str, dict[str, Any]] = {
    "kaggle": {
        "name": "Kaggle",
        "recipe": "danish-tiny",
        "others": "danish-tiny-coral, danish-tiny-cc0, danish-base",
        "settings": "",
        "hours": 11.5,
        "hours_why": "a session is ended after 12; what is left is for saving and pushing",
        "ftspeech": 1200,
        "keep": "/kaggle/working",
        "keep_why": "the session's output: at most 20 GB",
        "scratch": "/kaggle/temp/hvisk",
        "scratch_why": "more room than /kaggle/working, and gone when the session ends",
        "earlier": "/kaggle/input",
        "earlier_why": "the outputs of earlier sessions, once they are added as input",
        "before": [
            "*Settings, Accelerator*: **GPU T4 x2** (a P100 is too old for today's torch); for `TRAIN = False` **None**, which "
            "costs no GPU hours. *Internet*: on.",
            "For CoRal: accept its terms at https://huggingface.co/datasets/CoRal-project/coral-v3, make a token at "
            "https://huggingface.co/settings/tokens (*write*, so that the run can be kept), and add it under *Add-ons, "
            "Secrets* as `HF_TOKEN`.",
            "Set `REPO` in the next cell, so that the run goes on in the next session.",
            "Corpora that are larger than an evening: prepare them first, with `TRAIN = False`, *Save Version* (*Save & Run "
            "All*), and add the output of that version to this notebook under *Add Input*.",
        ],
        "run_all": "*Save Version, Save & Run All*: it runs without you, and its output is kept",
        "secret": [
            "from kaggle_secrets import UserSecretsClient",
            "",
            "return UserSecretsClient().get_secret(name)",
        ],
    },
    "colab": {
        "name": "Colab",
        "recipe": "danish-tiny-cc0",
        "others": "danish-tiny, danish-tiny-coral, danish-base",
        "settings": "--set batch_seconds=800",  # one T4 instead of two
        "hours": 10.0,
        "hours_why": "a session may be ended earlier and without a word; the run is pushed every half hour",
        "ftspeech": 600,
        "keep": "/content",
        "keep_why": 'gone with the session; "/content/drive/MyDrive/hvisk" stays, once Drive is mounted in the side bar',
        "scratch": "/content/hvisk",
        "scratch_why": "gone when the session ends",
        "earlier": "",
        "earlier_why": "a folder with the files of an earlier session, such as one on Drive",
        "before": [
            "*Runtime, Change runtime type*: **T4 GPU**.",
            "Make a token at https://huggingface.co/settings/tokens (*write*, so that the run can be kept) and add it under "
            "the key in the side bar as `HF_TOKEN`, open to this notebook. With CoRal in the recipe also accept its terms "
            "at https://huggingface.co/datasets/CoRal-project/coral-v3",
            "Set `REPO` in the next cell, so that the run goes on in the next session. Colab ends sessions that nobody looks "
            "at: keep the page open.",
        ],
        "run_all": "*Runtime, Run all*",
        "secret": ["from google.colab import userdata", "", "return userdata.get(name)"],
    },
}


def notebook(place: str) -> str:
    """Return the notebook of a place, as JSON text, without outputs; the same one each time."""
    values = dict(PLACES[place])
    values["secret"] = "\n".join(" " * 8 * bool(line) + line for line in values["secret"])
    values["tests"] = TESTS
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    script = environment.from_string((HERE / "template.py.jinja").read_text(encoding="utf-8")).render(values)
    made = v4.new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "accelerator": "GPU",
        }
    )
    for number, block in enumerate(script.split("# %%")[1:]):
        kind, _, source = block.partition("\n")
        source = source.strip("\n")
        if "[markdown]" in kind:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in source.splitlines())
            cell = v4.new_markdown_cell(text)
        else:
            cell = v4.new_code_cell(source)
            if "[parameters]" in kind:
                cell["metadata"]["tags"] = ["parameters"]  # papermill's name for it
        cell["id"] = f"{place}-{number}"
        made["cells"].append(cell)
    nbformat.validate(made)
    return nbformat.writes(made) + "\n"


def main() -> None:
    for place in PLACES:
        (HERE / f"{place}.ipynb").write_text(notebook(place), encoding="utf-8")
        print(HERE / f"{place}.ipynb", file=sys.stderr)


if __name__ == "__main__":
    main()
