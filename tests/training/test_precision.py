"""Which precision a run computes in."""

import logging
import platform
from pathlib import Path

import pytest
import torch

from lnsub.training.precision import affordable, has_bf16_units
from lnsub.training.trainer_settings import make_trainer


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": False, "avx512_f": True}, False),
        ({"bf16": True, "neon": True}, True),
        ({"bf16": False, "sve_bf16": False, "neon": True}, False),
        ({"cpu_name": "of another architecture"}, True),
    ],
)
def test_units_are_read_off_what_torch_says_of_the_processor(
    capabilities: dict[str, object], *, expected: bool
) -> None:
    assert has_bf16_units(capabilities) is expected


def test_this_processor_has_what_the_kernel_lists() -> None:
    flags = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not flags.exists():
        pytest.skip("needs Linux on x86")
    listed = {"avx512_bf16", "amx_bf16"} & set(flags.read_text(encoding="utf-8").split())
    assert has_bf16_units(torch.cpu.get_capabilities()) is bool(listed)


def _without_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})


def test_mixed_bfloat16_is_float32_without_units_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _without_units(monkeypatch)
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer({"precision": "bf16-mixed", "accelerator": "cpu", "logger": False})
    assert trainer.precision == "32-true"
    assert "no units for bfloat16" in caplog.text


@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "64-true", None])
def test_other_precisions_stay(monkeypatch: pytest.MonkeyPatch, precision: str | None) -> None:
    _without_units(monkeypatch)
    assert affordable(precision, "cpu") == precision


def test_mixed_bfloat16_stays_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_units(monkeypatch)
    assert affordable("bf16-mixed", "gpu") == "bf16-mixed"


def test_mixed_bfloat16_stays_with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert affordable("bf16-mixed", "auto") == "bf16-mixed"
