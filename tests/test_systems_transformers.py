"""What transformers carries beside Whisper, real: tiny random models of each kind with the processors of their own."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    ParakeetCTCConfig,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetForTDT,
    ParakeetProcessor,
    ParakeetTDTConfig,
    ParakeetTokenizer,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
)

from conftest import LETTERS
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import MissingExtra
from hvisk.systems.choose import open_system
from test_systems import clips, listens
from test_systems import wav2vec2 as wav2vec2  # its fixture

SPECIAL = ["<unk>", "<s>", "</s>"]
SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def tokenizer(*, last: str) -> Tokenizer:
    """Letters and spaces, a token each; `last` is the last one."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, "▁", *LETTERS, last])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    made.decoder = decoders.Sequence([decoders.Fuse(), decoders.Metaspace()])
    return made


@pytest.fixture(scope="module")
def parakeet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(1)
    directory = tmp_path_factory.mktemp("parakeet")
    letters = ParakeetTokenizer(tokenizer_object=tokenizer(last="<pad>"), unk_token="<unk>", pad_token="<pad>")
    encoder = ParakeetEncoderConfig(**SMALL, subsampling_conv_channels=16, num_mel_bins=80, initializer_range=1.0)
    blank = letters.pad_token_id
    nets = {
        "ctc": ParakeetForCTC(ParakeetCTCConfig(vocab_size=blank + 1, pad_token_id=blank, encoder_config=encoder)),
        "tdt": ParakeetForTDT(
            ParakeetTDTConfig(
                vocab_size=blank + 1,
                pad_token_id=blank,
                blank_token_id=blank,
                decoder_hidden_size=32,
                num_decoder_layers=1,
                max_symbols_per_step=2,
                encoder_config=encoder,
            )
        ),
    }
    for name, net in nets.items():
        with torch.no_grad():
            for weights in net.parameters():
                if weights.ndim > 1:
                    weights.mul_(3)  # else one token wins whatever is heard
        if name == "tdt":
            net.generation_config.decoder_start_token_id = blank
        net.eval().save_pretrained(directory / name)
        ParakeetProcessor(ParakeetFeatureExtractor(), letters).save_pretrained(directory / name)
    return {name: directory / name for name in nets}


def test_parakeet_s_ctc_is_decoded_greedily_as_its_processor_does(parakeet: dict[str, Path]) -> None:
    system = open_system(f"hf:{parakeet['ctc']}", beam_size=5)
    listens(system)
    assert (system.settings["class"], system.settings["decoder"]) == ("ParakeetForCTC", "ctc")
    assert "num_beams" not in system.settings
    processor = ParakeetProcessor.from_pretrained(parakeet["ctc"])
    net = ParakeetForCTC.from_pretrained(parakeet["ctc"]).eval()
    (clip,) = clips(2.0)
    with torch.inference_mode():
        best = net(**processor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")).logits.argmax(-1)
    kept = [token for token, _ in itertools.groupby(best[0].tolist()) if token != processor.tokenizer.pad_token_id]
    expected = processor.tokenizer.backend_tokenizer.decode(kept, skip_special_tokens=False)
    assert system.recognise([clip]) == [expected.strip()]


def test_parakeet_s_transducer_decodes_by_its_own_rules(parakeet: dict[str, Path]) -> None:
    system = open_system(f"hf:{parakeet['tdt']}", beam_size=5)
    assert (system.settings["class"], system.settings["decoder"]) == ("ParakeetForTDT", "tdt")
    assert "num_beams" not in system.settings
    sounds = clips(0.4, 2.0)
    assert system.recognise(sounds) == system.recognise(sounds[::-1])[::-1]


def test_an_encoder_with_a_decoder_that_is_no_whisper_is_given_its_beam(tmp_path: Path) -> None:
    torch.manual_seed(0)
    letters = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(last="<pad>"),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    config = MoonshineConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=32,
        encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        encoder_num_attention_heads=2,
        decoder_num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        initializer_range=1.0,
    )
    net = MoonshineForConditionalGeneration(config).eval()
    net.generation_config.max_length = 16  # a text of random weights never ends
    net.save_pretrained(tmp_path)
    letters.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(tmp_path)
    system = open_system(f"hf:{tmp_path}", beam_size=2)
    assert (system.settings["decoder"], system.settings["num_beams"]) == ("seq2seq", 2)
    sounds = clips(1.0, 2.0)
    texts = system.recognise(sounds)
    assert texts == system.recognise(sounds[::-1])[::-1]
    assert any(texts)


@pytest.fixture
def with_lm(wav2vec2: Path, tmp_path: Path) -> Path:
    """A repository that says it has a language model."""
    for path in wav2vec2.iterdir():
        if path.name != "processor_config.json":  # the repositories that have one are older than it
            (tmp_path / path.name).write_bytes(path.read_bytes())
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({**settings, "processor_class": "Wav2Vec2ProcessorWithLM"})
    )
    return tmp_path


def test_a_language_model_without_its_packages_is_an_error_not_another_decoder(
    with_lm: Path, wav2vec2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Any = importlib.util.find_spec
    gone = ("kenlm", "pyctcdecode")
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *rest: None if asked in gone else find(asked, *rest))
    with pytest.raises(MissingExtra, match=r"has a language model.*pip install pyctcdecode kenlm; or .*#no-lm"):
        open_system(f"hf:{with_lm}")
    greedy = open_system(f"hf:{with_lm}#no-lm")
    assert greedy.settings["decoder"] == "ctc"
    assert greedy.recognise(clips(1.0)) == open_system(f"hf:{wav2vec2}").recognise(clips(1.0))


def test_a_language_model_decodes_where_its_packages_are(with_lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages need a compiler and an old numpy, so a decoder with their interface stands in for them."""

    class Decoder:
        @staticmethod
        def load_from_dir(directory: str) -> "Decoder":
            assert Path(directory) == with_lm
            return Decoder()

        def decode_beams(self, logits: Any, **_: Any) -> list[tuple[str, None, list[Any]]]:
            return [(f"{len(logits)} frames", None, [])]

    package = ModuleType("pyctcdecode")
    package.BeamSearchDecoderCTC = Decoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyctcdecode", package)
    monkeypatch.setitem(sys.modules, "kenlm", ModuleType("kenlm"))
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *r: True if asked in ("kenlm", "pyctcdecode") else find(asked, *r)
    )
    version: Any = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda asked: "0" if asked in ("kenlm", "pyctcdecode") else version(asked)
    )
    system = open_system(f"hf:{with_lm}")
    assert system.settings["decoder"] == "ctc_with_lm"
    assert system.software.endswith("pyctcdecode 0, kenlm 0")
    (text,) = system.recognise(clips(1.0))
    assert text.endswith("frames")
    assert open_system(f"hf:{with_lm}#no-lm").settings["decoder"] == "ctc"
