"""Every benchmark has left a record, and each has the form that readers of benchmarks/results/ rely on; nothing is timed."""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = sorted(path.stem for path in BENCHMARKS.glob("[a-z]*.py"))
PROMISED = {
    "own_length": ["train-step", "short-single"],
    "score": ["counts", "bootstrap"],
    "train_throughput": ["cpu"],
    "input_pipeline": ["per-core", "streaming"],
    "recognise": ["cold-start", "memory", "short-single", "short-batch", "stages", "long-form"],
    "quality_at_equal_cost": ["our-recogniser", "stock-padded"],
    "adapt": ["own", "general"],
    "hotwords": ["own", "others", "common-words"],
    "label": ["pseudo-labels", "filters"],
    "serve_load": ["throughput", "long", "start"],
}
LOWER_IS_BETTER = "lower is better"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("_record", "_clips", "_tiny", "_peers", "_servers", "recognise", "serve_load"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmarks_record_says_what_ran_where(name: str) -> None:
    found = record(name)
    assert found["name"] == name
    assert found["mode"] in ("full", "smoke")
    assert "cores" in found["hardware"]
    assert found["versions"]
    for package in found["versions"]:
        importlib.metadata.version(package)  # a real package's name


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmarks_claims_set_ours_against_a_named_peer(name: str) -> None:
    claims = record(name)["claims"]
    if not (name == "train_throughput" and "gpu" in claims):  # where there is a GPU, that is what is measured
        assert set(PROMISED.get(name, [])) <= set(claims)
    assert claims
    for claim in claims.values():
        assert claim["peer_name"]
        assert claim["unit"]
        assert claim["ours"] > 0
        assert claim["peer"] > 0
        low, high = claim["spread"]
        assert 0 < low <= claim["ratio"] <= high
        better = claim["ours"] < claim["peer"] if LOWER_IS_BETTER in claim["unit"] else claim["ours"] > claim["peer"]
        # Medians of each side may lie the other way round than the median of the rounds' ratios, if they are as good as equal.
        assert better == (claim["ratio"] > 1) or low <= 1 <= high


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_a_smoke_form(name: str) -> None:
    assert "--smoke" in (BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")


def test_a_claim_is_the_median_round_and_its_range() -> None:
    import _record

    found = _record.claim([(1.0, 2.0), (1.0, 3.0), (2.0, 10.0)], peer_name="a peer", unit="clips a second", amount=6)
    assert found["ours"] == 6.0
    assert found["peer"] == 2.0
    assert (found["ratio"], found["spread"]) == (3.0, [2.0, 5.0])


def test_paired_calls_alternate_after_one_warm_up_each() -> None:
    import _record

    calls: list[str] = []
    assert len(_record.paired(lambda: calls.append("ours"), lambda: calls.append("peer"), rounds=2)) == 2
    assert calls == ["ours", "peer"] * 3


def test_clips_have_the_mean_length_of_corals_and_texts_to_match(tmp_path: Path) -> None:
    import _clips

    store = _clips.corpus(tmp_path / "clips", "train", 12, shards=2)
    assert len(store) == 12
    assert float(store.seconds.mean()) == pytest.approx(_clips.MEAN, abs=0.1)
    letters = sum(map(len, store.texts)) / float(store.seconds.sum())
    assert 8 < letters < 22  # a second; Danish read aloud has about 15


def test_the_model_of_whisper_tinys_shape_says_what_the_small_one_says(tmp_path: Path) -> None:
    import _tiny
    from hvisk import models
    from hvisk.corpora import synthetic
    from hvisk.export import ct2
    from hvisk.recogniser.engine import Recogniser
    from hvisk.tokens import Tokens

    small = models.hugging_face("hvisk:demo-base")
    wide = _tiny.write(tmp_path / "wide")
    settings = json.loads((wide / "config.json").read_text())
    shape = ("d_model", "encoder_layers", "decoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "vocab_size")
    assert [settings[key] for key in shape] == [384, 4, 4, 6, 1536, 51865]
    assert Tokens.load(wide).size == 51865
    heard = []
    clips = [u.audio for u in synthetic.read(synthetic.plan("test", 4, languages=_tiny.LANGUAGES)[0])]
    for number, source in enumerate((small, wide)):
        ct2.convert(source, tmp_path / str(number), quantisation="float32")
        recogniser = Recogniser.load(tmp_path / str(number), threads=1)
        # Beams too: rows out of reach must not take a share of the probability.
        heard.append([r for beam in (1, 3) for r in recogniser.recognise(clips, beam_size=beam)])
    assert [r.text for r in heard[0]] == [r.text for r in heard[1]]
    assert [r.score for r in heard[0]] == pytest.approx([r.score for r in heard[1]], abs=1e-3)


def test_a_process_is_measured_by_itself_whoever_starts_it(tmp_path: Path) -> None:
    import recognise

    ballast = bytearray(300_000_000)  # of this process, which is no concern of the other's
    program = "print('a', flush=True); b = bytearray(50_000_000); print('b')"
    found = recognise.process(sys.executable, "-c", program)
    assert len(ballast) > 1e6 * found["peak_mb"] > 50_000_000
    assert found["text"] == "a\nb\n"
    assert 0 < found["first"] <= found["seconds"]
    with pytest.raises(SystemExit, match="broken"):
        recognise.process(sys.executable, "-c", "raise SystemExit('broken')")


def test_the_recognisers_clips_are_whole_sentences_of_one_voice_about_as_long_as_corals(tmp_path: Path) -> None:
    import numpy as np

    import _clips
    import recognise
    from hvisk.corpora.store import Utterance

    rng = np.random.default_rng(0)
    spoken = [
        Utterance(str(n), f"s{n % 5}-{n}.", f"s{n % 5}", np.zeros(int(rng.uniform(1.5, 4) * 16_000), np.float32), {})
        for n in range(60)
    ]
    ready = recognise.Ready(recognise.SMOKE, tmp_path, None, spoken)
    clips = ready.clips(40)
    assert np.mean([len(clip.audio) for clip in clips]) / 16_000 == pytest.approx(_clips.MEAN, rel=0.15)
    for clip in clips:
        assert len({part.partition("-")[0] for part in clip.text.split()}) == 1
    path, text = ready.recording(0.5)
    assert path.exists()
    assert text.split()[:2] == ["s0-0.", "s1-1."]


def test_of_less_is_better_the_ratio_says_how_many_times_the_peer_needs() -> None:
    import recognise

    found = recognise.less([1.0, 2.0], [3.0, 4.0], peer_name="a peer", unit="s")
    assert (found["ours"], found["peer"], found["ratio"], found["spread"]) == (1.5, 3.5, 2.5, [2.0, 3.0])
    assert LOWER_IS_BETTER in found["unit"]
