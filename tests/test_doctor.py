import http.server
import importlib.metadata
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from rich.console import Console

from hvisk import doctor
from hvisk.doctor import Finding, as_json, examine, read_cpu, render
from hvisk.errors import HviskError
from hvisk.train import precision
from hvisk.train.precision import Precision, choose, decide


def one(topic: str, findings: list[Finding] | None = None) -> Finding:
    [found] = [finding for finding in findings or examine() if finding.topic == topic]
    return found


# --- precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((9, 0), "bf16"), ((12, 0), "bf16")],
)
def test_a_gpu_trains_in_bf16_only_from_capability_8(capability: tuple[int, int], dtype: str) -> None:
    for cpu_bf16 in (False, True):
        chosen = decide(capability, cpu_bf16, mps=False)
        assert (chosen.device, chosen.dtype) == ("cuda", dtype)
        assert f"{capability[0]}.{capability[1]}" in chosen.why


@pytest.mark.parametrize("capability", [(3, 7), (6, 0), (6, 1)])
def test_a_gpu_that_is_too_old_is_refused_with_a_way_out(capability: tuple[int, int]) -> None:
    with pytest.raises(HviskError, match=r"no kernels below 7\.0.*T4.*CUDA_VISIBLE_DEVICES=") as caught:
        decide(capability, cpu_bf16=True, mps=False)
    assert f"{capability[0]}.{capability[1]}" in str(caught.value)


def test_without_a_gpu_the_cpu_s_instructions_decide() -> None:
    assert decide(None, cpu_bf16=True, mps=False).dtype == "bf16"
    assert decide(None, cpu_bf16=False, mps=False).dtype == "fp32"
    assert decide(None, cpu_bf16=True, mps=False).device == "cpu"
    assert decide(None, cpu_bf16=True, mps=True) == Precision("mps", "fp32", decide(None, False, True).why)


def plug_in(monkeypatch: pytest.MonkeyPatch, *cards: tuple[str, tuple[int, int]]) -> None:
    """Let torch see these GPUs, and say of bf16 what it says on a T4."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: cards[index][0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: cards[index][1])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


def test_the_weakest_of_several_gpus_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, ("A100", (8, 0)), ("Tesla T4", (7, 5)))
    assert (choose().device, choose().dtype) == ("cuda", "fp16")


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, "bf16"),
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True, "avx512_bf16": False}, "fp32"),
    ],
)
def test_the_cpu_trains_in_bf16_where_it_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, object], dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert (choose().device, choose().dtype) == ("cpu", dtype)


def test_an_older_torch_is_told_by_the_system_what_the_cpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    for text, expected in (("flags : fpu avx2 avx512_bf16 x", True), ("flags : fpu avx2 avx512f", False)):
        monkeypatch.setattr(Path, "is_file", lambda _: True)
        monkeypatch.setattr(Path, "read_text", lambda _, text=text, **__: text)
        assert precision._cpu_has_bf16() is expected


# --- findings -------------------------------------------------------------------------------------------------------


def test_a_whole_installation_is_told_in_full() -> None:
    findings = examine()
    topics = [finding.topic for finding in findings]
    assert len(set(topics)) == len(topics)
    assert one("python", findings).detail.startswith(sys.version.split()[0])
    assert one("hvisk", findings).detail == importlib.metadata.version("hvisk")
    for package in ("ctranslate2", "onnxruntime", "av", "soundfile"):
        assert f"{package} {importlib.metadata.version(package)}" in one("packages", findings).detail
    for package in ("accelerate", "torch", "transformers"):
        assert f"{package} {importlib.metadata.version(package)}" in one("extra [train]", findings).detail
    for extra in ("demo", "docx", "serve", "restore"):
        assert one(f"extra [{extra}]", findings).state == "ok", extra
    assert one("espeak", findings).state == "ok"
    assert "int8_float32" in one("recognition", findings).detail
    assert f"in {choose().dtype}: {choose().why}" in one("training", findings).detail
    assert "GiB" in one("memory", findings).detail
    assert "GiB free" in one("disk", findings).detail
    assert "dev" not in " ".join(topics)
    assert all(finding.remedy for finding in findings if finding.state == "missing")


def test_looking_around_calls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(huggingface_hub, "get_session", forbidden)
    assert "hub online" not in [finding.topic for finding in examine()]


def test_without_torch_the_doctor_still_speaks_and_says_how_to_get_it() -> None:
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "espeakng_loader"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from hvisk import doctor
print(doctor.as_json(doctor.examine()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stderr == ""
    findings = {item["topic"]: item for item in json.loads(done.stdout)}
    assert findings["training"]["state"] == "missing"
    assert findings["training"]["detail"] == "torch is not installed; recognising does not need it"
    assert findings["training"]["remedy"] == "pip install 'hvisk[train]'"
    assert "torch missing (needs >=2.5)" in findings["extra [train]"]["detail"]
    assert findings["extra [train]"]["remedy"] == "pip install 'hvisk[train]'"
    assert findings["espeak"]["state"] == "missing"
    assert findings["extra [demo]"]["remedy"] == "pip install 'hvisk[demo]'"
    assert findings["packages"]["state"] == "ok"


def test_importing_the_doctor_brings_neither_torch_nor_an_engine() -> None:
    code = (
        "import sys, hvisk.doctor; print(sorted({'torch', 'ctranslate2', 'huggingface_hub', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_gpus_are_named_with_their_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, ("Tesla T4", (7, 5)), ("Tesla T4", (7, 5)))
    found = one("training")
    assert found.state == "ok"
    assert "Tesla T4 (compute capability 7.5); Tesla T4" in found.detail
    assert "cuda in fp16" in found.detail


def test_a_gpu_that_cannot_train_is_missing_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, ("Tesla P100-PCIE-16GB", (6, 0)))
    found = one("training")
    assert found.state == "missing"
    assert "Tesla P100-PCIE-16GB (compute capability 6.0)" in found.detail
    assert "GPU T4 x2" in found.remedy


def test_a_package_that_is_too_old_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    true = importlib.metadata.version
    old = {"transformers": "4.57.1", "av": "12.0.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: old.get(name) or true(name))
    found = one("extra [train]")
    assert (found.state, found.remedy) == ("missing", "pip install 'hvisk[train]'")
    assert "transformers 4.57.1 (needs >=5.0)" in found.detail
    assert "accelerate" in found.detail
    core = one("packages")
    assert (core.state, core.remedy) == ("missing", "pip install hvisk")
    assert "av 12.0.0 (needs >=14)" in core.detail


def test_running_from_a_folder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", absent)
    assert one("packages").remedy == "pip install -e ."


def test_an_engine_that_does_not_load_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert one("recognition").state == "missing"


def test_the_demo_s_model_is_found_where_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (one("model").state, one("model").remedy) == ("missing", "hvisk demo --out runs/demo")
    (tmp_path / "runs/demo/model").mkdir(parents=True)
    assert one("model").state == "ok"


def test_little_disk_and_memory_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (one("disk").state, one("memory").state) == ("ok", "ok")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 500_000, "SC_PAGE_SIZE": 4096}[name])
    assert (one("disk").state, one("memory").state) == ("note", "note")
    assert one("disk").detail.startswith("0.9 GiB free")
    assert one("memory").detail.startswith("1.9 GiB")


def test_a_token_is_seen_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    found = one("hub")
    assert (found.state, found.remedy) == ("note", "hf auth login")
    assert f"{tmp_path / 'hub'} (not made yet)" in found.detail
    (tmp_path / "hub").mkdir()
    (tmp_path / "token").write_text("hf_hemmelig")
    assert one("hub").state == "ok"
    assert "not made yet" not in one("hub").detail
    (tmp_path / "token").unlink()
    monkeypatch.setenv("HF_TOKEN", "hf_hemmelig")
    assert one("hub").state == "ok"
    assert "hemmelig" not in as_json(examine())


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_HEAD(self) -> None:
            self.send_response(type(self).status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    served = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def test_online_the_hub_is_asked_and_its_answer_told(
    server: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    found = one("hub online", examine(online=True))
    assert (found.state, found.detail) == ("ok", f"{url} answers")
    server.RequestHandlerClass.status = 503  # type: ignore[attr-defined]
    found = one("hub online", examine(online=True))
    assert found.state == "missing"
    assert "503" in found.detail


def test_online_a_hub_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    found = one("hub online", examine(online=True))
    assert found.state == "missing"
    assert f"127.0.0.1:{port} does not answer" in found.detail
    assert "proxy" in found.remedy


# --- the processor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "text", "name", "features"),
    [
        (
            "Linux",
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) @ 2.20GHz\nflags\t\t: fpu sse4_2 avx2 avx512f avx512_vnni "
            "avx512_bf16 amx_tile\n\nprocessor\t: 1\nmodel name\t: other\nflags\t\t: fpu\n",
            "Intel(R) Xeon(R) @ 2.20GHz",
            ["AVX2", "AVX512", "VNNI", "AVX512_BF16", "AMX"],
        ),
        ("Linux", "model name : Old\nflags : fpu avx avx2x\n", "Old", []),
        ("Linux", "processor : 0\nFeatures : fp asimd i8mm bf16\n", "", ["NEON", "I8MM", "BF16"]),
        (
            "Darwin",
            "machdep.cpu.brand_string: Apple M2\nhw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 0\n",
            "Apple M2",
            ["NEON", "BF16"],
        ),
        (
            "Darwin",
            "machdep.cpu.brand_string: Intel(R) Core(TM) i7\nmachdep.cpu.leaf7_features: BMI1 AVX2 AVX512F\n",
            "Intel(R) Core(TM) i7",
            ["AVX2", "AVX512"],
        ),
    ],
)
def test_the_processor_s_name_and_instructions_are_read(system: str, text: str, name: str, features: list[str]) -> None:
    assert read_cpu(system, text) == (name, features)


def test_a_system_whose_processor_cannot_be_read_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "system", lambda: "Windows")
    found = one("cpu")
    assert found.state == "note"
    assert "cannot be listed on Windows" in found.detail


# --- how it is told -------------------------------------------------------------------------------------------------


def test_the_table_shows_every_word_and_takes_no_bracket_for_a_style() -> None:
    findings = [
        Finding("extra [train]", "missing", "torch missing [bold]", "pip install 'hvisk[train]'"),
        Finding("python", "ok", "3.11"),
        Finding("hub", "note", "no token"),
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(render(findings))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines] == ["✗", "→", "✓", "•"]
    assert "extra [train]" in lines[0]
    assert "torch missing [bold]" in lines[0]
    assert "pip install 'hvisk[train]'" in lines[1]


def test_json_carries_every_field() -> None:
    findings = [Finding("plads", "note", "få GiB", "ryd op")]
    assert json.loads(as_json(findings)) == [
        {"topic": "plads", "state": "note", "detail": "få GiB", "remedy": "ryd op"}
    ]
    assert "få" in as_json(findings)
