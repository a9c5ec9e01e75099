"""Every kind of system, real: tiny random models in each one's own format, recognised by each one's own package."""

import importlib.util
import json
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from conftest import LETTERS, build_whisper
from hvisk import audio
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak
from hvisk.errors import HviskError, MissingExtra, ModelError, Unavailable
from hvisk.systems import endpoint
from hvisk.systems.cache import Cache
from hvisk.systems.choose import PREFIXES, open_system
from hvisk.systems.system import System
from hvisk.tokens import LANGUAGES, Tokens


def clips(*seconds: float) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.uniform(-0.3, 0.3, round(length * SAMPLE_RATE)).astype(np.float32) for length in seconds]


def listens(system: System) -> None:
    """One text a clip, the same ones again, each clip's own whatever others are there; none for none; long ones too."""
    sounds = clips(0.4, 2.0, 1.0)
    texts = system.recognise(sounds)
    assert len(texts) == 3
    assert all(isinstance(text, str) and text == text.strip() for text in texts)
    assert any(texts)
    assert system.recognise(sounds[::-1]) == texts[::-1]
    assert system.recognise(sounds[1:2]) == texts[1:2]
    assert system.recognise([]) == []
    assert len(system.recognise([*clips(31.0), sounds[1]])) == 2


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVISK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper that knows its languages, as OpenAI's do."""
    directory = build_whisper(tmp_path_factory.mktemp("models") / "whisper")
    tokens = Tokens.load(directory)
    generation = GenerationConfig(
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": tokens.language(code) for code in LANGUAGES},
        task_to_id={"transcribe": tokens.transcribe, "translate": tokens.translate},
        no_timestamps_token_id=tokens.no_timestamps,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        begin_suppress_tokens=[tokens.eot],
        max_length=448,
    )
    generation.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def brief(whisper: Path) -> Path:
    """The same with room for 32 tokens: a text of random weights hardly ends, and transformers is slow."""
    net = transformers.WhisperForConditionalGeneration.from_pretrained(whisper)
    positions = net.model.decoder.embed_positions
    positions.weight = torch.nn.Parameter(positions.weight[:40].clone())
    net.config.max_target_positions = 40
    net.generation_config.max_length = 40
    directory = whisper.parent / "brief"
    net.save_pretrained(directory)
    transformers.WhisperProcessor.from_pretrained(whisper).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("models") / "wav2vec2"
    directory.mkdir()
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", "|", *LETTERS])}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(directory / "vocab.json"), bos_token=None, eos_token=None, pad_token="<pad>")
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(directory)
    config = Wav2Vec2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16, 16, 16),
        conv_stride=(5, 8, 8),
        conv_kernel=(10, 8, 8),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
        initializer_range=2.0,  # with the usual 0.02 all is one letter, or none
    )
    Wav2Vec2ForCTC(config).eval().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper in OpenAI's own format; its vocabulary is the real one, which the package holds."""
    from whisper.model import ModelDimensions, Whisper
    from whisper.tokenizer import get_tokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it reads its vocabulary once, and leaves the file open
        get_tokenizer(multilingual=True)
    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, 64, 1, 4, 51865, 32, 64, 1, 4)  # 32 positions: a text of random weights never ends
    path = tmp_path_factory.mktemp("models") / "openai.pt"
    state = {name: value.half() for name, value in Whisper(dims).state_dict().items()}
    torch.save({"dims": vars(dims), "model_state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def ggml(checkpoint: Path) -> Path:
    """The same in whisper.cpp's format, as its converter lays it out: sizes, mel filters, vocabulary, tensors."""
    from whisper.audio import mel_filters
    from whisper.tokenizer import get_tokenizer

    loaded = torch.load(checkpoint, weights_only=True)
    dims = loaded["dims"]
    order = ["n_vocab"] + [f"n_{part}_{of}" for part in ("audio", "text") for of in ("ctx", "state", "head", "layer")]
    encoding = get_tokenizer(multilingual=True).encoding
    filters = mel_filters("cpu", 80).numpy()
    path = checkpoint.with_suffix(".bin")
    with path.open("wb") as file:
        file.write(struct.pack("<12i", 0x67676D6C, *(dims[name] for name in order), dims["n_mels"], 1))
        file.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        words = [encoding.decode_single_token_bytes(i) for i in range(50257)]
        file.write(struct.pack("<i", len(words)) + b"".join(struct.pack("<i", len(w)) + w for w in words))
        for name, tensor in loaded["model_state_dict"].items():
            values = tensor.float().numpy()
            halved = values.ndim > 1 and "positional" not in name  # whisper.cpp convolves in float16 alone
            if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
                values = values[:, None]
            file.write(
                struct.pack("<3i", values.ndim, len(name), int(halved))
                + struct.pack(f"<{values.ndim}i", *values.shape[::-1])
            )
            file.write(name.encode() + values.astype("<f2" if halved else "<f4").tobytes())
    return path


def numbers(directory: Path) -> int:
    net = transformers.WhisperForConditionalGeneration.from_pretrained(directory)
    return sum(weights.numel() for weights in net.parameters())


def test_ours_is_a_model_that_models_resolves(whisper: Path, random_ct2: Path) -> None:
    converted = open_system(str(whisper), beam_size=2)
    listens(converted)
    assert (converted.kind, converted.name, converted.parameters) == ("hvisk", str(whisper), numbers(whisper))
    assert converted.settings.keys() == {"model", "model_sha256", "language", "beam_size", "guards"}
    exported = open_system(str(random_ct2))
    listens(exported)
    assert exported.bytes == (random_ct2 / "model.bin").stat().st_size
    assert exported.software.startswith("hvisk ")
    assert ", ctranslate2 " in exported.software


def test_ours_is_guarded_as_a_transcript_is_unless_asked_not_to_be(
    random_ct2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded, bare = (open_system(str(random_ct2), guards=guards) for guards in (True, False))
    assert guarded.settings["guards"] == {"again": True, "no_speech": True, "credits": True}
    assert bare.settings["guards"] is None
    sentence = speak("Jeg elsker tebirkes.")
    spoken = [sentence, np.tile(sentence, 32 * SAMPLE_RATE // len(sentence))]  # the second is longer than a window
    free = bare.recognise(spoken)
    assert all(free)
    assert guarded.recognise(spoken) != free  # of random weights no text is plausible: drawn again
    monkeypatch.setattr("hvisk.recogniser.guards.is_credit", bool)  # every text is a credit line
    assert guarded.recognise(spoken) == ["", ""]
    assert bare.recognise(spoken) == free
    caches = [Cache.of(tmp_path / "answers.sqlite", system.settings, system.software) for system in (guarded, bare)]
    keys = {cache.key(sentence) for cache in caches if cache}
    for cache in filter(None, caches):
        cache.close()
    assert len(keys) == 2


def test_a_whisper_of_transformers_is_padded_and_told_the_language(brief: Path) -> None:
    listens(open_system(f"hf:{brief}"))
    system = open_system(f"hf:{brief}", language="sv", beam_size=2)
    assert system.settings["language"] == "sv"
    assert (system.settings["num_beams"], system.settings["decoder"]) == (2, "seq2seq_whisper")
    assert (system.kind, system.parameters) == ("transformers", numbers(brief))
    assert system.bytes == (brief / "model.safetensors").stat().st_size
    danish = open_system(f"hf:{brief}", beam_size=2)
    assert danish.recognise(clips(2.0)) == by_hand(brief, clips(2.0)[0], language="da", num_beams=2)
    assert danish.settings["model_sha256"] == system.settings["model_sha256"]


def by_hand(directory: Path, clip: np.ndarray, **options: Any) -> list[str]:
    processor = transformers.WhisperProcessor.from_pretrained(directory)
    net = transformers.WhisperForConditionalGeneration.from_pretrained(directory)
    features = processor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    assert features.shape[-1] == 3000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = net.generate(features, task="transcribe", do_sample=False, max_new_tokens=32, **options)
    return [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]


def test_a_training_run_is_opened_by_its_model(random_whisper: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model").symlink_to(random_whisper)
    system = open_system(f"hf:{tmp_path / 'run'}")
    assert system.settings["language"] == "the model's own"  # its generation settings name no languages
    assert len(system.recognise(clips(0.5))) == 1


def test_a_ctc_model_is_decoded_greedily_each_clip_alone(wav2vec2: Path) -> None:
    system = open_system(f"hf:{wav2vec2}", beam_size=5)
    listens(system)
    assert system.settings["class"] == "Wav2Vec2ForCTC"
    assert "num_beams" not in system.settings
    processor = Wav2Vec2Processor.from_pretrained(wav2vec2)
    net = Wav2Vec2ForCTC.from_pretrained(wav2vec2).eval()
    with torch.inference_mode():
        for clip in clips(0.4, 2.0):
            best = net(**processor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")).logits.argmax(-1)
            assert system.recognise([clip]) == [processor.decode(best[0]).strip()]


def test_faster_whisper_takes_both_formats(whisper: Path, random_ct2: Path) -> None:
    for directory in (whisper, random_ct2):
        system = open_system(f"faster-whisper:{directory}", beam_size=2)
        listens(system)
        assert (system.kind, system.settings["beam_size"], system.settings["temperature"]) == ("faster-whisper", 2, 0.0)


def test_openai_whisper_takes_its_own_checkpoints(checkpoint: Path) -> None:
    system = open_system(f"openai-whisper:{checkpoint}", threads=1)
    listens(system)
    assert (system.kind, system.bytes) == ("openai-whisper", checkpoint.stat().st_size)
    assert system.parameters is not None
    assert system.parameters > 51865 * 64


def test_whisper_cpp_takes_ggml_files(ggml: Path) -> None:
    system = open_system(f"whisper.cpp:{ggml}", threads=1)
    listens(system)
    assert (system.kind, system.bytes) == ("whisper.cpp", ggml.stat().st_size)
    assert "deterministic" not in system.settings


def test_whisper_cpp_with_beams_draws_lots_and_says_so(ggml: Path) -> None:
    # Its generator starts anew with each model: what is the same is the whole sequence, not a clip wherever it comes.
    name = f"whisper.cpp:{ggml}"
    first, second = (open_system(name, beam_size=2, threads=1) for _ in range(2))
    assert first.recognise(clips(0.4, 2.0, 1.0)) == second.recognise(clips(0.4, 2.0, 1.0))
    assert first.settings["deterministic"] is False


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:", "names no model. Accepted: hf:ID_OR_DIR"),
        ("hf:nowhere/at-all", "transformers cannot open nowhere/at-all.*a Hub id"),
        ("hf:{empty}", "transformers cannot open .*config.json"),
        ("faster-whisper:enormous", "Invalid model size 'enormous'.*Hub id"),
        ("faster-whisper:nobody/nothing", "faster-whisper cannot open 'nobody/nothing'"),
        ("openai-whisper:enormous", "Model enormous not found.*such as small"),
        ("openai-whisper:{empty}/broken.bin", "openai-whisper cannot open .*broken.bin"),
        ("whisper.cpp:enormous", "no file 'enormous'.*ggml file, which hvisk export MODEL --to ggml makes.*large-v3"),
        ("whisper.cpp:{empty}/broken.bin", "no ggml file.*hvisk export MODEL --to ggml"),
        ("api:example.org#whisper-1", "no endpoint. Accepted: api:URL#MODEL"),
        ("api:http://127.0.0.1/v1", "no endpoint"),
        ("predictions:{empty}/none.jsonl", "no file .*none.jsonl"),
        ("unheard:of", "'unheard:of' is no directory here and no Hub id"),
    ],
)
def test_what_cannot_be_opened_is_named_with_what_is_accepted(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.bin").write_bytes(b"not a model")
    with pytest.raises(HviskError, match=message):
        open_system(name.format(empty=tmp_path))


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("hf:some/model", "torch", "pip install 'hvisk[train]'"),
        ("hf:some/model", "transformers", "pip install 'hvisk[train]'"),
        ("whisper.cpp:small", "pywhispercpp", "pip install pywhispercpp"),
        ("openai-whisper:small", "whisper", "pip install openai-whisper"),
        ("api:http://127.0.0.1/v1#small", "openai", "pip install openai"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    name: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *rest: None if asked == module else find(asked, *rest)
    )
    with pytest.raises(MissingExtra, match=f"'{module}' is needed to open {name}.*{command}".replace("[", r"\[")):
        open_system(name)


def test_every_prefix_is_understood() -> None:
    for prefix in PREFIXES:
        with pytest.raises(ModelError, match=f"'{prefix}:' names no model"):
            open_system(f"{prefix}:")


class Server(ThreadingHTTPServer):
    """Speaks /v1/audio/transcriptions: says how long the clip is, or fails in one of the ways that servers do."""

    status = 200
    asked: list[dict[str, str]]

    class Handler(BaseHTTPRequestHandler):
        server: "Server"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
            fields = {}
            for part in body.split(b"--" + boundary)[1:-1]:
                head, _, value = part.partition(b"\r\n\r\n")
                fields[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value[:-2]
            samples = audio.load(fields.pop("file"))
            told = {name: value.decode() for name, value in fields.items()}
            self.server.asked.append({"path": self.path, "key": self.headers["Authorization"], **told})
            self.send_response(self.server.status if len(samples) > SAMPLE_RATE else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"text": f" {len(samples)} samples"}).encode())

        def log_message(self, *_: Any) -> None:
            pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Server.Handler)
    server.asked = []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/v1"


@pytest.mark.parametrize("route", ["", "/", "/audio/transcriptions"])
def test_an_endpoint_gets_the_clip_the_model_the_language_and_the_key(
    server: Server, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    system = open_system(f"api:{address(server)}{route}#hviske", language="da")
    assert system.recognise(clips(0.5, 2.0, 1.5)) == ["8000 samples", "32000 samples", "24000 samples"]
    assert server.asked[0] == {
        "path": "/v1/audio/transcriptions",
        "key": "Bearer secret",
        "model": "hviske",
        "language": "da",
        "response_format": "json",
        "temperature": "0.0",
    }
    assert "secret" not in json.dumps(system.settings)
    assert (system.kind, system.parameters, system.bytes) == ("api", None, None)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Set OPENAI_API_KEY"), (403, "refuses the key"), (404, "no model 'hviske'")]
)
def test_an_endpoint_that_answers_nobody_is_unavailable(server: Server, status: int, message: str) -> None:
    server.status = status
    with pytest.raises(Unavailable, match=message):
        open_system(f"api:{address(server)}#hviske").recognise(clips(2.0))


@pytest.mark.parametrize(("status", "message"), [(429, "takes no more requests"), (503, "not there at present")])
def test_an_endpoint_with_no_room_is_unavailable_for_now(
    server: Server, status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    server.status = status
    with pytest.raises(Unavailable, match=message):
        open_system(f"api:{address(server)}#hviske").recognise(clips(2.0))


def test_an_endpoint_that_refuses_one_clip_is_not_unavailable(server: Server) -> None:
    server.status = 400
    with pytest.raises(sys.modules["openai"].BadRequestError):
        open_system(f"api:{address(server)}#hviske").recognise(clips(2.0))


def test_a_server_that_is_not_there_is_unavailable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    system = open_system(f"api:{address(server)}#hviske")
    server.server_close()
    with pytest.raises(Unavailable, match="does not answer"):
        system.recognise(clips(0.5))
