"""Settings for the device: TF32 for float32 on a GPU, said once, and nothing that the user has set is changed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("device", "precision", "before", "expected"),
    [
        ("cuda", "32-true", "", "high"),
        ("cuda", "bf16-mixed", "", "highest"),
        ("cpu", "32-true", "", "highest"),
        ("cuda", "32-true", "torch.set_float32_matmul_precision('highest')", "highest"),
        ("cuda", "32-true", "torch.set_float32_matmul_precision('medium')", "medium"),
    ],
)
def test_float32_on_a_gpu_runs_in_tf32_unless_a_precision_is_set(device, precision, before, expected):
    program = f"""
import logging, torch
from types import SimpleNamespace
from lnsub.training.device_settings import use_tensor_cores
logging.basicConfig(level=logging.INFO, format="%(message)s")
{before}
trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("{device}")), precision="{precision}")
use_tensor_cores(trainer)
use_tensor_cores(trainer)
print(torch.get_float32_matmul_precision())
"""
    # In a process of its own, as the setting is the process's.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
    assert done.stderr.count("NVIDIA_TF32_OVERRIDE=0") == (expected == "high")
