"""What this machine has for hvisk, and what is missing: findings for a person or for a machine to read.

Nothing here needs torch, and nothing reaches for the network unless `examine(online=True)` asks for it.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table
from rich.text import Text

import hvisk
from hvisk import models
from hvisk.errors import HviskError

GIB = 1 << 30  # bytes
ENOUGH_MEMORY = 4 * GIB  # torch, a batch and the corpus index of the demo
ENOUGH_DISK = 5 * GIB  # the environment with torch is 2 GiB, an hour of speech as FLAC 0.06, a checkpoint of tiny 0.5
HUB_TIMEOUT = 5.0  # seconds
_MODULES = {"python-docx": "docx", "python-multipart": "python_multipart"}  # where the name is not the package's
DEMO_MODEL = models.DEMO

# What makes matrix products fast, by the names of /proc/cpuinfo, x86 before Arm.
CPU_FEATURES = {
    "AVX2": {"avx2"},
    "AVX512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "AVX512_BF16": {"avx512_bf16"},
    "AMX": {"amx_tile"},
    "NEON": {"neon", "asimd"},
    "I8MM": {"i8mm"},
    "BF16": {"bf16"},
}
MARKS = {"ok": ("✓", "green"), "missing": ("✗", "red"), "note": ("•", "yellow")}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `detail` says what is there, `remedy` what to do about it (empty where nothing is)."""

    topic: str
    state: Literal["ok", "missing", "note"]
    detail: str
    remedy: str = ""


def examine(*, online: bool = False) -> list[Finding]:
    """Look at this machine and return what was found; with `online`, also ask whether the Hub answers."""
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("hvisk", "ok", hvisk.__version__),
        _cpu(),
        _memory(),
        _disk(),
        *_packages(),
        _engine(),
        _torch(),
        _espeak(),
        _model(),
        _hub(),
        *([_hub_answers()] if online else []),
    ]


def render(findings: Iterable[Finding]) -> Table:
    """Return the findings as a rich table: mark, topic, detail, and the remedy on a line of its own."""
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark, colour = MARKS[finding.state]
        detail = Text(finding.detail)  # Text, because rich would take "[train]" in a string for a style
        if finding.remedy:
            detail.append(f"\n→ {finding.remedy}", style="cyan")
        table.add_row(Text(mark, style=colour), Text(finding.topic, style="bold"), detail)
    return table


def as_json(findings: Iterable[Finding]) -> str:
    """Return the findings as a JSON list of objects with the fields of Finding."""
    return json.dumps([dataclasses.asdict(finding) for finding in findings], ensure_ascii=False, indent=2)


def read_cpu(system: str, text: str) -> tuple[str, list[str]]:
    """Return the CPU's name and what it has of CPU_FEATURES, from /proc/cpuinfo or, on Darwin, `sysctl -a`."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    if system == "Darwin":
        name = fields.get("machdep.cpu.brand_string", "")
        words = f"{fields.get('machdep.cpu.features', '')} {fields.get('machdep.cpu.leaf7_features', '')}"
        flags = set(words.lower().split())
        arm = {"hw.optional.neon": "neon", "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.arm.FEAT_BF16": "bf16"}
        flags |= {flag for key, flag in arm.items() if fields.get(key) == "1"}
        flags |= {"neon"} if name.startswith("Apple") else set()
    else:
        name = fields.get("model name", "")
        flags = set(fields.get("flags", fields.get("Features", "")).split())
    return name, [feature for feature, names in CPU_FEATURES.items() if names & flags]


def hardware() -> str:
    """Return this machine's processor in words, as reports and records name it: "AMD EPYC, 2 cores, AVX2 AVX512"."""
    name, features, cores = _processor()
    return f"{name}, {_counted(cores)}" + (f", {' '.join(features)}" if features else "")


def _processor() -> tuple[str, list[str], int]:
    """Its name, what it has of CPU_FEATURES (nothing where that cannot be listed), and the cores hvisk may use."""
    system, text = platform.system(), ""
    if system == "Linux":
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    elif system == "Darwin":
        text = subprocess.run(["/usr/sbin/sysctl", "-a"], capture_output=True, text=True, check=False).stdout
    name, features = read_cpu(system, text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return name or platform.processor() or platform.machine(), features, cores


def _counted(allowed: int) -> str:
    """The cores that hvisk may use, and those of the machine where they are more."""
    whole = os.cpu_count() or allowed
    return f"{allowed} of {whole} cores" if allowed < whole else f"{whole} cores"


def _cpu() -> Finding:
    name, features, cores = _processor()
    detail = f"{name}, {_counted(cores)}"
    if platform.system() not in ("Linux", "Darwin"):
        return Finding("cpu", "note", f"{detail}; its instructions cannot be listed on {platform.system()}")
    if not {"AVX2", "NEON"} & set(features):
        return Finding("cpu", "note", f"{detail}, without AVX2 or NEON: recognising works, slowly")
    return Finding("cpu", "ok", f"{detail}, {' '.join(features)}")


def _memory() -> Finding:
    if not hasattr(os, "sysconf"):
        return Finding("memory", "note", f"its size cannot be read on {platform.system()}")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():  # a container's share; "max" is none
            total = min(total, int(text))
    if total < ENOUGH_MEMORY:
        return Finding("memory", "note", f"{total / GIB:.1f} GiB: enough to recognise; training wants 4 GiB or more")
    return Finding("memory", "ok", f"{total / GIB:.1f} GiB")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    if free < ENOUGH_DISK:
        return Finding(
            "disk",
            "note",
            f"{free / GIB:.1f} GiB free in this folder; corpora and checkpoints want 5 GiB or more",
            "delete what is no longer needed, or work in a folder on another disk",
        )
    return Finding("disk", "ok", f"{free / GIB:.1f} GiB free in this folder")


def _packages() -> list[Finding]:
    """One finding for the packages hvisk always needs and one for each extra, from hvisk's own metadata."""
    try:
        about = importlib.metadata.metadata("hvisk")
    except importlib.metadata.PackageNotFoundError:
        return [Finding("packages", "missing", "hvisk runs from a folder and is not installed", "pip install -e .")]
    extras = [extra for extra in about.get_all("Provides-Extra", []) if extra != "dev"]
    return [_group(about.get_all("Requires-Dist", []), extra) for extra in ("", *extras)]


def _group(lines: list[str], extra: str) -> Finding:
    from packaging.requirements import Requirement

    words, complete = [], True
    for line in lines:
        requirement = Requirement(line)
        if (requirement.marker is None) != (extra == ""):
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        version = _version(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        words.append(
            f"{requirement.name} {version or 'missing'}" + ("" if fits else f" (needs {requirement.specifier})")
        )
        complete = complete and fits
    return Finding(
        f"extra [{extra}]" if extra else "packages",
        "ok" if complete else "missing",
        ", ".join(words),
        "" if complete else f"pip install 'hvisk[{extra}]'" if extra else "pip install hvisk",
    )


def _version(package: str) -> str | None:
    """The installed version, None where the package is not there or its module cannot be found."""
    try:
        found = importlib.util.find_spec(_MODULES.get(package, package.replace("-", "_")))
        return importlib.metadata.version(package) if found else None
    except ImportError:
        return None


def _engine() -> Finding:
    try:
        import ctranslate2
    except (ImportError, OSError) as error:
        return Finding("recognition", "missing", f"ctranslate2 cannot be loaded: {error}", "pip install hvisk")
    types = ", ".join(sorted(ctranslate2.get_supported_compute_types("cpu")))
    found = f"ctranslate2 {ctranslate2.__version__}; on the CPU: {types}"
    if ctranslate2.get_cuda_device_count():
        types = ", ".join(sorted(ctranslate2.get_supported_compute_types("cuda")))
        found += f"; on the GPU: {types}"
    return Finding("recognition", "ok", found)


def _torch() -> Finding:
    install = "pip install 'hvisk[train]'"
    if _version("torch") is None:
        return Finding("training", "missing", "torch is not installed; recognising does not need it", install)
    try:
        from hvisk.train import precision
    except (ImportError, OSError) as error:  # OSError: a driver's library that is not there
        return Finding("training", "missing", f"torch cannot be loaded: {error}", install)
    cards = "; ".join(f"{name} (compute capability {major}.{minor})" for name, (major, minor) in precision.gpus())
    found = f"torch {_version('torch')}, {cards or 'no NVIDIA GPU'}"
    try:
        chosen = precision.choose()
    except HviskError as error:
        return Finding("training", "missing", found, str(error))
    return Finding("training", "ok", f"{found}; trains on {chosen.device} in {chosen.dtype}: {chosen.why}")


def _espeak() -> Finding:
    if version := _version("espeakng-loader"):
        return Finding("espeak", "ok", f"espeakng-loader {version}: synthetic Danish speech can be made")
    return Finding("espeak", "missing", "no synthetic Danish speech without espeak-ng", "pip install 'hvisk[demo]'")


def _model() -> Finding:
    if DEMO_MODEL.is_dir():
        return Finding("model", "ok", f"{DEMO_MODEL}, made by the demo on this machine")
    return Finding("model", "missing", f"no model in {DEMO_MODEL}", f"hvisk demo --out {DEMO_MODEL.parent}")


def _hub() -> Finding:
    from huggingface_hub import constants

    # Looked at, never read: huggingface_hub.get_token() would open a dialogue on Colab.
    named = [name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name)]
    cache = f"cache in {constants.HF_HUB_CACHE}" + ("" if Path(constants.HF_HUB_CACHE).is_dir() else " (not made yet)")
    if named or Path(constants.HF_TOKEN_PATH).is_file():
        return Finding("hub", "ok", f"a token is set ({named[0] if named else 'by hf auth login'}); {cache}")
    return Finding("hub", "note", f"no token: public models and corpora only; {cache}", "hf auth login")


def _hub_answers() -> Finding:
    from huggingface_hub import constants, get_session

    try:
        status = get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT).status_code
    except (
        Exception
    ) as error:  # the HTTP client behind huggingface_hub changes between its versions, and its errors too
        return Finding(
            "hub online",
            "missing",
            f"{constants.ENDPOINT} does not answer: {type(error).__name__}: {error}",
            "check the connection, the proxy and HF_ENDPOINT; models and corpora already here work without it",
        )
    if status >= 400:
        return Finding(
            "hub online", "missing", f"{constants.ENDPOINT} answers with HTTP status {status}", "try again later"
        )
    return Finding("hub online", "ok", f"{constants.ENDPOINT} answers")
