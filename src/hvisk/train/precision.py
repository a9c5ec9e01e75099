"""Where training runs and in which number format: decided here and nowhere else."""

import contextlib
import ctypes
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from hvisk.errors import HviskError, RecipeError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in glibc's malloc.h

BF16_CAPABILITY = (8, 0)  # Ampere, the first with bf16 units
FP16_CAPABILITY = (7, 0)  # Volta and Turing (T4), with fp16 units


@dataclass(frozen=True)
class Precision:
    """The device to train on, the format of its matrix products (weights stay fp32), and the reason in words."""

    device: Literal["cuda", "mps", "cpu"]
    dtype: Literal["bf16", "fp16", "fp32"]
    why: str


def gpus() -> list[tuple[str, tuple[int, int]]]:
    """Return the name and CUDA compute capability of each GPU that torch can see."""
    if not torch.cuda.is_available():
        return []
    return [
        (torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index))
        for index in range(torch.cuda.device_count())
    ]


def decide(cuda: tuple[int, int] | None, cpu_bf16: bool, mps: bool) -> Precision:
    """Return the precision for the weakest GPU's compute capability, the CPU's bf16 instructions and Apple's MPS.

    Capability is the one honest sign: `torch.cuda.is_bf16_supported()` says yes on a T4, which emulates
    bf16, slowly. Raises HviskError below capability 7.0 (P100), for which today's torch has no kernels.
    """
    if cuda is not None:
        has = f"compute capability {cuda[0]}.{cuda[1]}"
        if cuda >= BF16_CAPABILITY:
            return Precision("cuda", "bf16", f"{has} computes bf16")
        if cuda >= FP16_CAPABILITY:
            return Precision("cuda", "fp16", f"{has} computes fp16, and bf16 only by emulation")
        raise HviskError(
            f"The GPU has {has}, and today's torch has no kernels below 7.0. On Kaggle choose the accelerator "
            "'GPU T4 x2', elsewhere a T4 or newer; or train on the CPU with CUDA_VISIBLE_DEVICES= before the command."
        )
    if mps:
        return Precision("mps", "fp32", "Apple's GPU, where half precision is not proven for training")
    if cpu_bf16:
        return Precision("cpu", "bf16", "no GPU; this CPU has bf16 instructions")
    return Precision("cpu", "fp32", "no GPU; this CPU has no bf16 instructions")


def keep_memory() -> None:
    """Tell glibc to keep what it has mapped: a step's large tensors are mapped and unmapped anew at every one otherwise.

    That was 14 to 23 % of a step of whisper-tiny's shape. Nothing happens where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def choose(wanted: Literal["auto", "fp32", "bf16", "fp16"] = "auto") -> Precision:
    """Return the precision for this machine, in the format `wanted`; raises HviskError where its GPU is too old.

    Among several GPUs the weakest decides, so that every process of a run comes to the same answer. Raises RecipeError
    for fp16 without a CUDA GPU.
    """
    capabilities = [capability for _, capability in gpus()]
    best = decide(min(capabilities, default=None), _cpu_has_bf16(), torch.backends.mps.is_available())
    if wanted == "auto":
        return best
    if wanted == "fp16" and best.device != "cuda":
        raise RecipeError(f"precision = fp16 needs a CUDA GPU, and this machine trains on {best.device}. Choose auto.")
    return replace(best, dtype=wanted, why="as the recipe says")


def _cpu_has_bf16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        features = {name for name, value in torch.cpu.get_capabilities().items() if value is True}
    else:  # an older torch
        cpuinfo = Path("/proc/cpuinfo")
        features = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
    return bool(features & {"avx512_bf16", "amx_bf16", "bf16"})  # the last is Arm's
