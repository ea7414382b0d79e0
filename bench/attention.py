"""What does attention cost, and how near is it to the machine's floor? One table.

    python bench/attention.py [--threads 1] [--tokens 1024 4096 ...] [--name attention]

Heads of 64 features. Every method is timed forward and forward + backward at each number of
tokens, in turns, the best of several turns; in processor time on one thread, in wall time on more
(which wants an idle machine). Each turn runs a method twice and times the second run, which finds
memory as the method itself leaves it, as in training, and not as another one does.

Two floors stand beside them. One is memory, by the time to copy one tensor of that size: a forward
pass has to read q, k and v and to write y (two copies' worth), a backward pass to read q, k, v and
ybar and to write three gradients (three and a half). The other is multiplication, by the rate of
PyTorch's large matrix products in that dtype: 4 d^2 operations for a token and head forward, 8 d^2
backward. `of_bound` is the share of the larger one; which that is depends on the processor.

`straightforward` is the usual few lines of PyTorch; `linear-attention-transformer` is a public
package of that name, if it is installed (its keys are normalised by a softmax over the tokens).
Ratios are between rows of one run.

A method that makes large tensors pays for memory that is new each time, which the C library gives
back to the system and asks for again. With MALLOC_MMAP_THRESHOLD_=8589934592 and
MALLOC_TRIM_THRESHOLD_=34359738368 in the environment it keeps what it has, as other allocators do:
results/attention_heap.csv is such a run (`--name attention_heap`), up to a million tokens, as four
do not fit into 24 GB then.

Then the errors of every backend at a million tokens, in bfloat16 against float64.
Writes bench/results/NAME.csv and NAME_errors.csv with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from stormda.attention import BLOCKED, NATIVE, PLAIN, backend_report, linear_attention, native
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
FEATURES = 64
SQUARE = 1024
"""Rows of the matrices whose product tells how fast the machine multiplies."""

QUADRATIC = 8192
"""Tokens above which softmax attention is not run."""

MILLION = 2**20
"""Tokens of the table of errors, and of the exponents, at most."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def straightforward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return ReLU linear attention as it is usually written."""
    q, k = torch.relu(q), torch.relu(k)
    kv = k.transpose(-2, -1) @ v
    matches = q @ k.sum(-2)[..., None]
    return (q @ kv) / (matches + 1e-6)


def peer() -> dict[str, Attend]:
    """Return a public package's attention, if it is installed."""
    try:
        from linear_attention_transformer.linear_attention_transformer import linear_attn
    except ImportError:
        return {}
    return {"linear-attention-transformer": linear_attn}


def methods() -> dict[tuple[str, torch.dtype], Attend]:
    """Return what is compared, by name and dtype."""
    both: dict[str, Attend] = {
        "softmax (SDPA)": scaled_dot_product_attention,
        "straightforward": straightforward,
        **peer(),
    }
    found = {
        (name, dtype): f for dtype in (torch.float32, torch.bfloat16) for name, f in both.items()
    }
    for backend in (PLAIN, BLOCKED):
        for dtype in (torch.float32, torch.bfloat16):
            found[backend.name, dtype] = partial(linear_attention, backend=backend)
    if native.loaded():
        found[NATIVE.name, torch.bfloat16] = partial(linear_attention, backend=NATIVE)
    return found


def inputs(heads: int, tokens: int, dtype: torch.dtype) -> list[Tensor]:
    """Draw q, k, v and the gradient of the answers."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, heads, tokens, FEATURES)
    drawn = [torch.randn(shape, generator=generator).to(dtype) for _ in range(4)]
    return [*(x.requires_grad_() for x in drawn[:3]), drawn[3]]


def once(attend: Attend, tensors: list[Tensor], clock: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds of a forward pass, and of one with its backward pass."""
    q, k, v, ybar = tensors
    start = clock()
    with torch.no_grad():
        attend(q, k, v)
    forward = clock() - start
    start = clock()
    torch.autograd.grad(attend(q, k, v), (q, k, v), ybar)
    return forward, clock() - start


def measure(heads: int, tokens: int, clock: Callable[[], float]) -> list[dict[str, object]]:
    """Return a row for each method at a number of tokens."""
    turns = 9 if tokens <= 65536 else 7 if tokens <= MILLION else 3
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        chosen = {
            name: attend
            for (name, of), attend in methods().items()
            if of == dtype and (tokens <= QUADRATIC or "SDPA" not in name)
        }
        tensors = inputs(heads, tokens, dtype)
        spare = torch.empty_like(tensors[3])
        best = dict.fromkeys(chosen, (math.inf, math.inf))
        square = torch.randn(SQUARE, SQUARE).to(dtype)
        copy = multiply = math.inf
        for _ in range(turns):
            for name, attend in chosen.items():
                once(attend, tensors, clock)
                best[name] = tuple(map(min, best[name], once(attend, tensors, clock)))
            start = clock()
            spare.copy_(tensors[3])
            copy = min(copy, clock() - start)
            start = clock()
            torch.mm(square, square)
            multiply = min(multiply, clock() - start)
        per = 1e9 / (heads * tokens)
        products = multiply * heads * tokens * 2 * FEATURES**2 / SQUARE**3
        for name, (forward, both) in best.items():
            backward = max(both - forward, 1e-12)
            rows.append(
                {
                    "method": name,
                    "dtype": str(dtype).removeprefix("torch."),
                    "heads": heads,
                    "tokens": tokens,
                    "forward_ns": forward * per,
                    "both_ns": both * per,
                    "copy_ns": copy * per,
                    "products_ns": products * per,
                    "forward_of_floor": 2 * copy / forward,
                    "backward_of_floor": 3.5 * copy / backward,
                    "forward_of_bound": max(2 * copy, products) / forward,
                    "backward_of_bound": max(3.5 * copy, 2 * products) / backward,
                }
            )
    return rows


def errors(tokens: int) -> list[dict[str, object]]:
    """Return the relative errors of every backend in bfloat16, against float64."""
    drawn = inputs(1, tokens, torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in drawn[:3]]
    y = linear_attention(*exact, backend=BLOCKED)
    bars = torch.autograd.grad(y, exact, drawn[3].double())
    rows = []
    for (name, dtype), attend in methods().items():
        if dtype == torch.bfloat16 and "SDPA" not in name and "transformer" not in name:
            got = attend(*drawn[:3])
            found = (got, *torch.autograd.grad(got, drawn[:3], drawn[3]))
            values = zip(("y", "q", "k", "v"), found, (y, *bars), strict=True)
            row = {f"error_{of}": _relative(a, b) for of, a, b in values}
            rows.append({"method": name, "tokens": tokens, **row})
    return rows


def _relative(x: Tensor, expected: Tensor) -> float:
    with torch.no_grad():
        return ((x.double() - expected).norm() / expected.norm()).item()


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [256, 512, 1024, 4096, 16384, 65536, 262144, MILLION, 4 * MILLION]
    parser.add_argument("--tokens", nargs="+", type=int, default=sizes)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="attention")
    parser.add_argument("--picture", action="store_true", help="draw what NAME.csv holds, no more")
    arguments = parser.parse_args()
    if arguments.picture:
        picture(arguments.name)
        return
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    if native.status() != "no C++ compiler":
        native.build()
    print(backend_report())
    rows: list[dict[str, object]] = []
    for tokens in arguments.tokens:
        rows += measure(8 if tokens <= 65536 else 1, tokens, clock)
        print(f"{tokens} tokens done", flush=True)
    write(RESULTS / f"{arguments.name}.csv", rows)
    print(table(rows))
    found = errors(min(max(arguments.tokens), MILLION))
    write(RESULTS / f"{arguments.name}_errors.csv", found)
    for row in found:
        print(row)
    print(summary(rows))


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """Write the rows with where they come from."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "native": native.status()}
    record |= {"versions": versions, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            short = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(short | record)


def picture(name: str) -> None:
    """Draw time against tokens into docs/images/attention_cost.png."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with (RESULTS / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    colours = {m: f"C{i}" for i, m in enumerate(dict.fromkeys(r["method"] for r in rows))}
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, dtype in zip(axes, ("float32", "bfloat16"), strict=True):
        mine = [r for r in rows if r["dtype"] == dtype]
        for method in dict.fromkeys(r["method"] for r in mine):
            points = [r for r in mine if r["method"] == method]
            n = [int(r["tokens"]) for r in points]
            seconds = [8e-9 * float(r["both_ns"]) * int(r["tokens"]) for r in points]
            axis.loglog(n, seconds, marker="o", markersize=3, label=method, color=colours[method])
        axis.set(title=dtype, xlabel="tokens")
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("forward + backward, 8 heads of 64 [s]")
    figure.savefig(RESULTS.parents[1] / "docs" / "images" / "attention_cost.png", dpi=110)


def table(rows: list[dict[str, object]]) -> str:
    """Return nanoseconds for a token and head, and shares of the floor."""
    lines = [
        f"{'method':<30}{'dtype':>9}{'tokens':>9}{'fwd ns':>9}{'f+b ns':>9}"
        f"{'fwd/floor':>10}{'bwd/floor':>10}{'fwd/bound':>10}{'bwd/bound':>10}"
    ]
    for r in sorted(
        rows, key=lambda r: (str(r["dtype"]), str(r["method"]), int(str(r["tokens"])))
    ):
        lines.append(
            f"{r['method']:<30}{r['dtype']:>9}{r['tokens']:>9}{r['forward_ns']:>9.1f}"
            f"{r['both_ns']:>9.1f}{r['forward_of_floor']:>10.0%}{r['backward_of_floor']:>10.0%}"
            f"{r['forward_of_bound']:>10.0%}{r['backward_of_bound']:>10.0%}"
        )
    return "\n".join(lines)


def summary(rows: list[dict[str, object]]) -> str:
    """Return exponents, crossovers and ratios."""
    at = {(r["method"], r["dtype"], r["tokens"]): r for r in rows}
    lines = []
    for method, dtype in dict.fromkeys((r["method"], r["dtype"]) for r in rows):
        own = [r for r in rows if (r["method"], r["dtype"]) == (method, dtype)]
        own = [r for r in own if 4096 <= int(str(r["tokens"])) <= MILLION]
        if len(own) > 2:
            lines.append(
                f"{method} {dtype}: time ~ n^{exponent(own, 'forward_ns'):.3f} forward, "
                f"n^{exponent(own, 'both_ns'):.3f} with backward, from 4096 tokens to a million"
            )
    for ours, dtype, theirs in (
        ("blocked", "float32", "straightforward"),
        ("native", "bfloat16", "straightforward"),
    ):
        for tokens in sorted({int(str(r["tokens"])) for r in rows}):
            a, b = at.get((ours, dtype, tokens)), at.get((theirs, dtype, tokens))
            if a and b:
                lines.append(
                    f"{theirs} / {ours}, {dtype}, {tokens} tokens: "
                    f"{b['forward_ns'] / a['forward_ns']:.2f} forward, "
                    f"{b['both_ns'] / a['both_ns']:.2f} with backward"
                )
    for dtype, ours in (("float32", "plain"), ("bfloat16", "native")):
        for what in ("forward_ns", "both_ns"):
            first = next(
                (
                    t
                    for t in sorted({int(str(r["tokens"])) for r in rows})
                    if (a := at.get((ours, dtype, t)))
                    and (b := at.get(("softmax (SDPA)", dtype, t)))
                    and a[what] < b[what]
                ),
                None,
            )
            if first is not None:
                lines.append(
                    f"{ours} {dtype} is quicker than SDPA ({what}) from {first} tokens on"
                )
    return "\n".join(lines)


def exponent(rows: Iterable[dict[str, object]], what: str) -> float:
    """Return the slope of log time against log tokens, by least squares."""
    points = [
        (math.log(int(str(r["tokens"]))), math.log(float(str(r[what])) * int(str(r["tokens"]))))
        for r in rows
    ]
    x, y = (sum(p[i] for p in points) / len(points) for i in (0, 1))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


if __name__ == "__main__":
    main()
