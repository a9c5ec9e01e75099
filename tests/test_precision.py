"""Which number format a machine trains in: the cards that people have, and what a recipe may ask for instead."""

import pytest
import torch

from hvisk.errors import HviskError, RecipeError
from hvisk.train import precision
from hvisk.train.precision import choose, decide

P100, V100, T4, A100, L4, H100 = (6, 0), (7, 0), (7, 5), (8, 0), (8, 9), (9, 0)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A machine with the GPU of the test's parameter, where torch says of bf16 what it says on a T4; None is no GPU."""
    capability = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(precision, "_cpu_has_bf16", lambda: True)


@pytest.mark.parametrize(
    ("capability", "cpu_bf16", "mps", "device", "dtype"),
    [
        (T4, True, False, "cuda", "fp16"),
        (V100, True, False, "cuda", "fp16"),
        (A100, False, False, "cuda", "bf16"),
        (L4, False, False, "cuda", "bf16"),
        (H100, False, False, "cuda", "bf16"),
        (None, True, False, "cpu", "bf16"),
        (None, False, False, "cpu", "fp32"),
        (None, True, True, "mps", "fp32"),
    ],
)
def test_the_table(capability: tuple[int, int] | None, cpu_bf16: bool, mps: bool, device: str, dtype: str) -> None:
    chosen = decide(capability, cpu_bf16, mps)
    assert (chosen.device, chosen.dtype) == (device, dtype)
    assert chosen.why


def test_a_p100_is_refused_with_what_to_choose_on_kaggle() -> None:
    with pytest.raises(HviskError, match=r"compute capability 6\.0.*'GPU T4 x2'.*CUDA_VISIBLE_DEVICES= "):
        decide(P100, True, False)


@pytest.mark.parametrize(
    ("card", "wanted", "device", "dtype"),
    [
        (T4, "auto", "cuda", "fp16"),
        (T4, "fp32", "cuda", "fp32"),
        (T4, "bf16", "cuda", "bf16"),
        (A100, "fp16", "cuda", "fp16"),
        (None, "auto", "cpu", "bf16"),
        (None, "fp32", "cpu", "fp32"),
        (None, "bf16", "cpu", "bf16"),
    ],
    indirect=["card"],
)
@pytest.mark.usefixtures("card")
def test_the_recipe_may_choose_the_format_and_not_the_device(wanted: str, device: str, dtype: str) -> None:
    chosen = choose(wanted)  # type: ignore[arg-type]
    assert (chosen.device, chosen.dtype) == (device, dtype)
    assert (chosen.why == "as the recipe says") == (wanted != "auto")


@pytest.mark.parametrize("card", [None], indirect=True)
@pytest.mark.usefixtures("card")
def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(RecipeError, match="fp16 needs a CUDA GPU, and this machine trains on cpu"):
        choose("fp16")


@pytest.mark.parametrize("card", [P100], indirect=True)
@pytest.mark.usefixtures("card")
def test_no_recipe_makes_a_p100_train() -> None:
    with pytest.raises(HviskError, match="T4"):
        choose("fp32")
