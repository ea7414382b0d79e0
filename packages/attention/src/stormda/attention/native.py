"""Linear attention of bfloat16 tokens in C++ (`kernels/linear.cpp`), built by a compiler once.

The library is plain C++ behind a C interface: it needs no header of torch, is built in seconds and
serves any version. It is compiled for the processor it is built on and kept in a cache directory
under a name made of source, compiler and processor. It is built when its backend is first asked
for by name, or by `build`; until then `suited` leaves it alone. Nothing in the package needs it.
"""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stormda.attention.features import Feature, relu
from stormda.attention.packed import answers_by, sums_by
from stormda.attention.pages import result_like
from stormda.attention.state import LinearState

SOURCE = Path(__file__).parent / "kernels" / "linear.cpp"
"""The source; the headers that it includes lie beside it."""

FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-shared", "-pthread", "-march=native"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
"""What it is compiled with; sums may be taken in any order."""

SIZES = (32, 64, 128)
"""The numbers of features of a head that it is compiled for."""

KINDS = ("in portable loops", "on AVX-512", "on matrix units")
"""What multiplies, as the library numbers it."""

OPENMP = re.compile(r"/lib(gomp|iomp5|omp)\b[^/ ]*$")
"""A line of Linux's list of what a process has loaded that names a runtime of OpenMP."""

SHARE = 4096
"""Tokens of a head that are worth a share of their own."""


def build() -> ctypes.CDLL:
    """Compile the library if it is not in the cache, and load it.

    Raises:
        RuntimeError: There is no C++ compiler, or it fails.
    """
    return _library()


@cache
def _library() -> ctypes.CDLL:
    compiler = _compiler()
    if compiler is None:
        raise RuntimeError("the native backend needs a C++ compiler: install g++ or clang++")
    target = cache_directory() / f"linear-{_fingerprint(compiler)}.so"
    if not target.exists():
        _compile(compiler, target)
    library = ctypes.CDLL(str(target))
    library.stormda_kind()  # asks Linux for the matrix units, once a process
    library.stormda_use_team(team())
    return library


def team() -> Any:  # noqa: ANN401
    """Return the function that starts the threads PyTorch works on, or None if there is none.

    It is `GOMP_parallel`, which the OpenMP runtimes of GCC, Intel and LLVM all have.
    """
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    paths = {line.split(maxsplit=5)[-1] for line in lines if OPENMP.search(line)}
    own = str(Path(torch.__file__).parent)
    for path in sorted(paths, key=lambda path: (not path.startswith(own), path)):
        runtime = ctypes.CDLL(path)
        if hasattr(runtime, "GOMP_parallel"):
            return runtime.GOMP_parallel
    return None


def _compiler() -> str | None:
    """Return the C++ compiler of this machine."""
    asked = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [asked or "", "g++", "clang++", "c++"])), None)


def cache_directory() -> Path:
    """Return where the library is kept: `$XDG_CACHE_HOME/stormda`, or `~/.cache/stormda`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "stormda"


def _fingerprint(compiler: str) -> str:
    """Return a name for this source, compiler and processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else [platform.processor()]
    flags = sorted({line for line in lines if not info.exists() or line.startswith("flags")})
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    sources = [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]
    parts = (*(path.read_bytes() for path in sources), version, repr((FLAGS, flags)).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _compile(compiler: str, target: Path) -> None:
    """Compile into a temporary file, and rename: many processes may do so at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        command = [compiler, *FLAGS, "-o", str(made), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the native backend: {compiler} failed:\n{done.stderr[-2000:]}")
        made.replace(target)


def loaded() -> bool:
    """Return whether the library is loaded in this process."""
    return _library.cache_info().currsize > 0


def status() -> str:
    """Return what the library can do here, or what is missing."""
    if not loaded():
        found = _compiler()
        return f"not built; would use {found}" if found else "no C++ compiler"
    return f"ready, {KINDS[_library().stormda_kind()]}"


def suits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Return whether the library is loaded, quick here, and made for such tokens."""
    made_for = all(x.dtype == torch.bfloat16 and x.shape[-1] == q.shape[-1] for x in (q, k, v))
    return bool(made_for and q.shape[-1] in SIZES and loaded() and _library().stormda_kind())


def native_sums(
    k: Tensor,
    v: Tensor,
    *,
    feature: Feature = relu,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> LinearState:
    """Return `LinearState.from_tokens(feature(k), v, ...)` of bfloat16 tokens.

    Args:
        k: Keys `(*batch, h, m, d)`.
        v: Values `(*batch, h, m, d)`.
        feature: Maps keys to `d` features; ReLU is done inside.
        weight: What each key counts, `(*batch, m)` or broadcastable to it.
        mask: True where a key counts, `(*batch, m)` or broadcastable to it.

    Raises:
        ValueError: Tokens of another dtype or device, or of a size it is not compiled for.
        RuntimeError: There is no C++ compiler.
    """
    return sums_by(_Sums.apply, _check, k, v, feature=feature, weight=weight, mask=mask)


def native_answers(q: Tensor, state: LinearState, *, feature: Feature = relu) -> Tensor:
    """Return `state.apply(feature(q))` of bfloat16 tokens, in bfloat16.

    Args:
        q: Queries `(*batch, h, n, d)`.
        state: The sums over the keys.
        feature: Maps queries to `d` features; ReLU is done inside.

    Raises:
        ValueError: Tokens of another dtype or device, or of a size it is not compiled for.
        RuntimeError: There is no C++ compiler.
    """
    return answers_by(_Answers.apply, _check, q, state, feature=feature)


def _check(**tokens: Tensor) -> None:
    for name, x in tokens.items():
        if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.shape[-1] not in SIZES:
            raise ValueError(
                f"{name}: expected torch.bfloat16 on cpu with d one of {SIZES}, got {x.dtype} on "
                f"{x.device.type} of shape {tuple(x.shape)}"
            )


class _Sums(torch.autograd.Function):
    """S, z and s, packed, from k, v and w."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, v: Tensor, w: Tensor | None, inside: bool) -> Tensor:  # noqa: ANN401
        """Sum."""
        k, v = k.contiguous(), v.contiguous()
        w = None if w is None else w.contiguous()
        d = k.shape[-1]
        out = torch.empty((*k.shape[:-2], d * (d + 2)))
        _run("stormda_sums", k, inside, k, v, w, out)
        count = float(k.shape[-2]) if w is None else w.sum(-1, keepdim=True).clamp(min=1e-30)
        ctx.save_for_backward(k, v, w, out[..., d * d :] / count)
        ctx.inside = inside
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back."""
        k, v, w, centre = ctx.saved_tensors
        k_bar, v_bar = result_like(k), result_like(v)
        w_bar = None if w is None else torch.empty_like(w)
        tensors = (k, v, w, centre, bar.contiguous(), k_bar, v_bar, w_bar)
        _run("stormda_sums_back", k, ctx.inside, *tensors)
        return k_bar, v_bar, w_bar, None


class _Answers(torch.autograd.Function):
    """y from q and the packed factors of a state."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, state: Tensor, inside: bool) -> Tensor:  # noqa: ANN401
        """Answer."""
        q, state = q.contiguous(), state.contiguous()
        ctx.save_for_backward(q, state)
        ctx.inside = inside
        y = result_like(q)
        _run("stormda_answers", q, inside, q, state, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Any, ...]:  # noqa: ANN401
        """Pull back."""
        q, state = ctx.saved_tensors
        q_bar, state_bar = result_like(q), torch.empty_like(state)
        _run("stormda_answers_back", q, ctx.inside, q, state, y_bar.contiguous(), q_bar, state_bar)
        return q_bar, state_bar, None


def _run(name: str, like: Tensor, inside: bool, *tensors: Tensor | None) -> None:
    """Call the library on tokens like `like (*batch, h, n, d)`."""
    n, d = like.shape[-2:]
    heads = like.shape[:-2].numel()
    threads = torch.get_num_threads()
    shares = max(1, min(-(-4 * threads // max(heads, 1)), n // SHARE))  # a few for each thread
    pointers = [ctypes.c_void_p(None if x is None else x.data_ptr()) for x in tensors]
    sizes = [ctypes.c_int64(size) for size in (heads, n, d)]
    rest = ctypes.c_bool(inside), ctypes.c_int64(threads), ctypes.c_int64(shares)
    getattr(_library(), name)(*pointers, *sizes, *rest)
