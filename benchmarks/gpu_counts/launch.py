"""Runs a Python program on the null GPU: CUDA's entry points, as far as torch calls them, that do nothing but count.

It needs a CUDA build of torch, with the packages of CUDA that come with it, and a C compiler; no GPU and no driver.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "null_gpu"

REAL = (Path("/dev/nvidiactl"), Path("/dev/nvidia0"), Path("/dev/dxg"), Path("/proc/driver/nvidia"))
"""What a machine with a GPU has, also under WSL."""


def why_not(python: str) -> str | None:
    """Why the null GPU cannot be used here, in a sentence; None where it can.

    Args:
        python: the interpreter whose torch is to run on it.
    """
    if any(path.exists() for path in REAL):
        return "There is a real GPU here, which the null GPU would hide: use it on another machine."
    if _compiler() is None:
        return "The null GPU needs a C compiler: install gcc, or name one in the environment variable CC."
    if _headers(python) is None:
        return f"The torch of {python} is not a CUDA build with CUDA's headers beside it (nvidia-cuda-runtime)."
    return None


def build(python: str) -> Path:
    """Compiles the null GPU for the CUDA headers that an interpreter has; once for the same sources and headers.

    Returns:
        The folder with ``libcuda.so.1``.

    Raises:
        RuntimeError: it cannot be used here; see :func:`why_not`.
    """
    if reason := why_not(python):
        raise RuntimeError(reason)
    headers, compiler = _headers(python), _compiler()
    assert headers is not None
    assert compiler is not None
    sources = sorted(SOURCES.glob("*.c"))
    read = b"".join(path.read_bytes() for path in (*sources, *sorted(SOURCES.rglob("*.h"))))
    name = hashlib.sha256(read + str(headers).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"lnsub-null-gpu-{os.getuid()}-{name}"
    library = folder / "libcuda.so.1"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        made = folder / f"{os.getpid()}.so"
        command = [compiler, "-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-I{SOURCES}", f"-I{headers}"]
        subprocess.run([*command, *map(str, sources), "-o", str(made), "-ldl", "-lpthread"], check=True)
        made.rename(library)
        shutil.copy(library, folder / "libcuda.so")  # the name that Triton's linker looks for
    return folder


def run(
    python: str,
    program: Sequence[str],
    checkout: Path,
    environment: Mapping[str, str] | None = None,
    seconds: float = 600,
) -> Any:
    """Runs a Python program on the null GPU; it prints its result as JSON on its last line.

    Args:
        python: the interpreter, with a CUDA build of torch.
        program: the program's file and arguments.
        checkout: the project whose ``lnsub`` it imports.
        environment: further variables.
        seconds: the time limit.

    Raises:
        RuntimeError: the null GPU cannot be used here, or the program fails; with the end of what it said.
    """
    folder = build(python)
    variables = {
        **os.environ,
        "LD_PRELOAD": str(folder / "libcuda.so.1"),
        "LD_LIBRARY_PATH": str(folder),
        "TRITON_LIBCUDA_PATH": str(folder),
        "PYTHONPATH": str(checkout),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **(environment or {}),
    }
    done = subprocess.run(
        # Not from the folder of the program: its neighbours are no modules for it.
        [python, "-P", *program],
        env=variables,
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(program)} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def _headers(python: str) -> Path | None:
    """The folder of CUDA's headers that came with an interpreter's torch."""
    look = "import sysconfig, torch; print(sysconfig.get_path('purelib'), torch.version.cuda)"
    found = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
    where, _, cuda = found.stdout.strip().rpartition(" ")
    if found.returncode or cuda == "None":
        return None
    return next((path.parent for path in Path(where).glob("nvidia/*/include/driver_types.h")), None)
