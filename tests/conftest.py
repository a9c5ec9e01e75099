"""A Whisper with random weights, small enough to build in a second: what it says is noise, but it listens."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from hvisk.export.ct2 import convert
from hvisk.files import write_json
from hvisk.tokens import Tokens

settings.register_profile("untimed", deadline=None)  # a busy machine is slow, and no test fails for that
settings.load_profile("untimed")

LETTERS = "abcdefghijklmnopqrstuvwxyzæøå"


def build_whisper(
    directory: Path, *, always: str | None = None, width: int = 64, layers: int = 2, heads: int = 2
) -> Path:
    """Write a Hugging Face Whisper with a small vocabulary, to which `always` is always the likeliest next token."""
    torch.manual_seed(7)
    tokens = Tokens.small(LETTERS)
    config = WhisperConfig(
        vocab_size=tokens.size,
        num_mel_bins=80,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.3,  # with the usual 0.02 the same token wins whatever is heard
    )
    net = WhisperForConditionalGeneration(config)
    decoder = net.model.decoder
    rows = decoder.embed_tokens.weight
    with torch.no_grad():
        # As the padding token it starts as zero, and no text would ever end.
        rows[tokens.eot] = torch.randn(width) * 1.5 * config.init_std
        if always is not None:
            row = rows[tokens.tokenizer.token_to_id(always)]
            decoder.layer_norm.weight.zero_()
            decoder.layer_norm.bias.copy_(10 * row / row.norm())
    net.generation_config.begin_suppress_tokens = [tokens.eot]  # as in OpenAI's: no text may be empty
    directory.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # transformers 5 warns of its own defaults while saving
        net.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(directory)
    tokens.save(directory)
    write_json(directory / "hvisk.json", {"own_length": True, "margin": 32, "language": "da"})
    return directory


@pytest.fixture(scope="session")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory."""
    return build_whisper(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def random_ct2(random_whisper: Path) -> Path:
    """The same as an int8 CTranslate2 directory."""
    out = random_whisper.parent / "random-ct2"
    convert(random_whisper, out)
    return out


@pytest.fixture(scope="session")
def silent_ct2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTranslate2 directory of a model that answers everything with an empty text."""
    root = tmp_path_factory.mktemp("models")
    convert(build_whisper(root / "silent", always="<|endoftext|>"), root / "silent-ct2")
    return root / "silent-ct2"


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished small demo in runs/demo: the one model that a test run trains for real."""
    folder = tmp_path_factory.mktemp("demo")
    sizes = ["--clips", "600", "--test-clips", "24"]
    settings = ["minutes=0", "steps=120", "evaluate_every=120", "checkpoint_every=120", "validation_clips=16"]
    arguments = ["demo", *sizes, *(part for setting in settings for part in ("--set", setting))]
    (folder / "arguments.json").write_text(json.dumps(arguments))
    environment = {**os.environ, "HVISK_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", "from hvisk.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium, which fetches nothing of its own accord."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(
            f"The report is tested in a real browser, and none of {', '.join(names)} is on the PATH. "
            "Install one: apt-get update && apt-get install -y chromium"
        )
    quiet = ("quic", "background-networking", "component-update", "sync", "gpu")
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=arguments)
        yield chromium
        chromium.close()
