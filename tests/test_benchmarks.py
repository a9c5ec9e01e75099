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
    "quality_at_equal_cost": ["our-recogniser", "stock-padded"],
}
LOWER_IS_BETTER = "lower is better"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("_record", "_clips"):
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
