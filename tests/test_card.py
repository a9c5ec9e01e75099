"""The model card: metadata that huggingface_hub reads back, a licence that the data allows, and one commit to a Hub."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import EvalResult, ModelCard, constants
from huggingface_hub.repocard_data import model_index_to_eval_results

from hvisk import files
from hvisk.errors import HviskError, ModelError
from hvisk.report.card import push, render_card

SYNTHETIC = "Text: MIT, as hvisk itself. Sound: made by eSpeak NG (a GPL program; its output is not under the GPL)."


def corpus(name: str, said: str, seconds: float = 7200.0) -> dict[str, Any]:
    return {"name": name, "licence": said, "clips": 3000, "seconds": seconds, "speakers": 77, "fingerprint": name}


def model(directory: Path, **changes: Any) -> Path:
    about = {
        "hvisk": "0.1.0",
        "language": "da",
        "base": "",
        "parameters": 1_890_944,
        "corpora": [corpus("synthetic da train", SYNTHETIC)],
        "base_corpora": [],
        "own_length": True,
    }
    files.write_json(directory / "hvisk.json", about | changes)
    files.write_bytes(directory / "model.safetensors", b"weights")
    files.write_json(directory / "config.json", {})
    return directory


def evaluation(directory: Path) -> Path:
    score = {
        "version": "1",
        "cer": 0.13,
        "wer_interval": [0.3, 0.45],
        "cer_interval": None,
        "clips": 300,
        "speakers": 12,
    }
    scales = {
        "wer": {**score, "wer": 0.3767, "warning": "12 speakers."},
        "coral-2025": {**score, "wer": 0.35, "warning": None},
        "cased": {**score, "wer": None, "cer": None, "warning": None},
    }
    files.write_json(directory / "scores.json", {"scales": scales})
    files.write_text(directory / "predictions.jsonl", "{}\n")
    return directory


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, list[tuple[str, Path]]]:
    for name in ("model", "evaluation"):
        (tmp_path / name).mkdir()
    return model(tmp_path / "model"), [("Synthetic Danish, test", evaluation(tmp_path / "evaluation"))]


def test_the_metadata_is_read_back_with_the_scale_in_each_metric_s_name(
    parts: tuple[Path, list[tuple[str, Path]]],
) -> None:
    card = ModelCard(render_card(*parts, repo_id="danmark/hvisk-tiny"))
    assert card.data.language == "da"
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "automatic-speech-recognition"
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == "hvisk-tiny"
    assert all(isinstance(result, EvalResult) for result in results)
    assert [(r.metric_type, r.metric_name, r.metric_value) for r in results] == [
        ("wer", "WER, scale wer, version 1", 37.67),
        ("cer", "CER, scale wer, version 1", 13.0),
        ("wer", "WER, scale coral-2025, version 1", 35.0),
        ("cer", "CER, scale coral-2025, version 1", 13.0),
    ]
    assert results[0].metric_args == {"scale": "wer", "interval_95": [30.0, 45.0]}
    assert {r.dataset_name for r in results} == {"Synthetic Danish, test"}


def test_the_card_tells_data_limits_cost_and_how_to_run_it(
    tmp_path: Path, parts: tuple[Path, list[tuple[str, Path]]]
) -> None:
    files.write_text(tmp_path / "log.jsonl", '{"minutes": 1}\n{"step": 836, "minutes": 90, "audio_seconds": 47197}\n')
    card = render_card(*parts, repo_id="danmark/hvisk-tiny", run=tmp_path)
    for said in (
        "| synthetic da train | 3,000 | 2.0 | 77 | Text: MIT",
        "| coral-2025 | 35.0\u00a0% [30.0,\u00a045.0] |",
        "**Caution.** 12 speakers.",
        "1.50 hours on one machine (836 steps, 13.1 hours of speech",
        "Energy: not measured.",
        "synthetic voices",
        "hvisk transcribe recording.mp3 --model danmark/hvisk-tiny",
        'pipeline("automatic-speech-recognition", model="danmark/hvisk-tiny")',
        "ct2-transformers-converter --model danmark/hvisk-tiny",
        "convert-h5-to-ggml.py",
        "@huggingface/transformers",
    ):
        assert said in card, said


def test_what_is_not_known_is_said_to_be_unknown(tmp_path: Path) -> None:
    card = render_card(model(tmp_path, corpora=[]), [])
    assert ModelCard(card).data.license == "unknown"
    assert "model-index" not in ModelCard(card).data.to_dict()
    for said in ("It has not been evaluated", "Not recorded.", "GPU hours its training took is not known"):
        assert said in card
    (tmp_path / "hvisk.json").unlink()
    with pytest.raises(ModelError, match=r"no hvisk\.json.*runs/NAME/model"):
        render_card(tmp_path, [])
    with pytest.raises(HviskError, match=r"no scores\.json.*hvisk evaluate"):
        render_card(model(tmp_path), [("x", tmp_path)])


@pytest.mark.parametrize(
    ("base", "base_corpora", "expected"),
    [
        ("openai/whisper-tiny", [], "apache-2.0"),
        ("somebody/whisper-da", [], "unknown"),
        ("hvisk:demo-base", [corpus("nb", "openrail")], "openrail"),
    ],
)
def test_the_licence_of_the_base_holds_too(tmp_path: Path, base: str, base_corpora: list[Any], expected: str) -> None:
    card = ModelCard(render_card(model(tmp_path, base=base, base_corpora=base_corpora), []))
    assert card.data.license == expected
    assert card.data.get("base_model") == (None if base.startswith("hvisk:") else base)


def test_the_licence_s_demands_and_its_page_are_on_the_card(tmp_path: Path) -> None:
    corpora = [corpus("coral train", "OpenRAIL-D"), corpus("ft", "Folketinget's terms, https://ft.dk/x")]
    card = ModelCard(render_card(model(tmp_path, corpora=corpora), []))
    assert card.data.license == "other"
    assert card.data.license_name == "openrail-and-folketinget-s-terms--https---ft.dk-x"
    assert card.data.license_link.startswith("https://huggingface.co/datasets/CoRal-project/")
    assert "- The restrictions on use of coral train (OpenRAIL) are passed on with the model" in card.text
    assert f"Its text: {card.data.license_link}" in card.text
    free = ModelCard(render_card(model(tmp_path), []))
    assert (free.data.get("license_name"), free.data.get("license_link")) == (None, None)


def test_a_hostile_name_stays_text(tmp_path: Path) -> None:
    name = "a | b\n---\nlicense: evil\n<script>alert(1)</script>"
    card = render_card(model(tmp_path, corpora=[corpus(name, "MIT")], base="x\n# y"), [(name, evaluation(tmp_path))])
    assert "<script>" not in ModelCard(card).text
    assert ModelCard(card).data.license == "unknown"
    assert "\n# y" not in card


class Hub(http.server.ThreadingHTTPServer):
    """As much of the Hub as an upload asks for. commits: files of each, by their place; refuse: answer 403 instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.commits: list[dict[str, bytes]] = []
        self.created: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self.refuse = False


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.refuse:
            return self.reply(403, {"error": "no"})
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.reply(200, {"url": f"{self.server.url}/danmark/hvisk-tiny"})
        if path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if path.endswith("/preupload/main"):
            listed = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.reply(200, {"files": listed})
        assert path.endswith("/commit/main"), path
        lines = [json.loads(line) for line in body.splitlines()]
        held = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        self.server.commits.append(held)
        url = f"{self.server.url}/danmark/hvisk-tiny/commit/{'c0ffee' * 6}c0de"
        return self.reply(200, {"commitUrl": url, "commitOid": "c0ffee" * 6 + "c0de"})

    def do_GET(self) -> None:
        self.reply(404, {"error": self.path})

    def reply(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    served = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()
    huggingface_hub.close_session()


def test_model_card_and_predictions_go_up_in_one_commit(hub: Hub, parts: tuple[Path, list[tuple[str, Path]]]) -> None:
    directory, evaluations = parts
    files.write_text(directory / "README.md", "an old card")
    files.write_text(directory / ".secret", "x")
    card = render_card(directory, evaluations, repo_id="danmark/hvisk-tiny")
    where = push(directory, card, "danmark/hvisk-tiny", predictions=evaluations, token="hf_test")
    assert where == f"{hub.url}/danmark/hvisk-tiny"
    (commit,) = hub.commits
    folder = "evaluation/synthetic-danish--test"
    assert set(commit) == {
        *("README.md", "config.json", "hvisk.json", "model.safetensors"),
        *(f"{folder}/{name}" for name in ("predictions.jsonl", "scores.json")),
    }
    assert commit["README.md"].decode() == card
    assert commit["model.safetensors"] == b"weights"
    assert hub.created[0]["name"] == "hvisk-tiny"
    assert "Bearer hf_test" in hub.tokens


def test_a_refusal_says_what_to_do(hub: Hub, parts: tuple[Path, list[tuple[str, Path]]]) -> None:
    hub.refuse = True
    with pytest.raises(HviskError, match=r"danmark/hvisk cannot be uploaded.*hf auth login"):
        push(parts[0], "card", "danmark/hvisk", token="hf_test")
    (parts[0] / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        push(parts[0], "card", "danmark/hvisk", token="hf_test")
    assert hub.commits == []
