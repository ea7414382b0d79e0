"""Laws of the tokenizer: its slow twin, any subset and order, harmless gaps, gradients."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from einops import rearrange

from stormda.grid import LatLonGrid, Patching, PlaneGrid, grid, grid_features, level_features
from stormda.grid.tokenizer import Detokenizer, Tokenizer, TokenizerConfig, aggregate
from stormda.grid.transfer import bilinear_matrix, resize_detokenizer, resize_tokenizer

NAMES = ("t", "u", "v")
REGION = LatLonGrid(range(50, 57), range(9))
CONFIG = TokenizerConfig(
    variables=NAMES, patch=(2, 4), width=12, heads=3, static=5, vectors=("u", "v")
)
PATCHING = Patching(REGION, (2, 4))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokenizer():
    """A tokenizer whose queries have left zero."""
    module = Tokenizer(CONFIG).double()
    for i, parameter in enumerate(module.parameters()):
        parameter.data = random(*parameter.shape, seed=i) / 3
    return module


X, STATIC = random(2, 3, *REGION.shape), random(PATCHING.tokens(), 5)


def slow_aggregate(cells, weight, query, present):
    """Ordinary attention with one query for each head, patch by patch."""
    heads = len(query)
    out = []
    for i in range(cells.shape[1]):
        here = [v for v in range(len(cells)) if present[v, i]] or range(len(cells))
        embedded = torch.stack([cells[v, i] @ weight[v] for v in here])
        share = torch.softmax(embedded @ query.T, 0)
        values = rearrange(embedded, "v (h d) -> v h d", h=heads)
        out.append((share[..., None] * values).sum(0).flatten())
    return torch.stack(out)


def test_aggregation_equals_attention_with_keys():
    cells, weight, query = random(3, 7, 5), random(3, 5, 12), random(4, 12)
    present = random(3, 7) > 0
    present[:, 0] = False
    everywhere = torch.ones_like(present)
    expected = slow_aggregate(cells, weight, query, everywhere)
    torch.testing.assert_close(aggregate(cells, weight, query), expected)
    expected = slow_aggregate(cells, weight, query, present)
    torch.testing.assert_close(aggregate(cells, weight, query, present), expected)


def test_it_starts_as_the_mean_over_variables():
    module = Tokenizer(CONFIG).double()
    mixed = module(X, NAMES, patching=PATCHING, static=STATIC)
    alone = [
        module(X[:, i : i + 1], [name], patching=PATCHING, static=STATIC)
        for i, name in enumerate(NAMES)
    ]
    torch.testing.assert_close(mixed, torch.stack(alone).mean(0))


def test_the_order_of_variables_is_immaterial():
    module = tokenizer()
    expected = module(X, NAMES, patching=PATCHING, static=STATIC)
    order = [2, 0, 1]
    names = [NAMES[i] for i in order]
    shuffled = module(X[:, order], names, patching=PATCHING, static=STATIC)
    torch.testing.assert_close(shuffled, expected)


def test_a_variable_without_a_valid_cell_is_a_missing_one():
    module = tokenizer()
    mask = torch.tensor([True, False, True])[:, None, None]
    masked = module(X, NAMES, patching=PATCHING, static=STATIC, mask=mask)
    left = X[:, [0, 2]], ["t", "v"]
    torch.testing.assert_close(masked, module(*left, patching=PATCHING, static=STATIC))


def test_a_full_mask_is_no_mask():
    module = tokenizer()
    mask = torch.ones(X.shape, dtype=torch.bool)
    masked = module(X, NAMES, patching=PATCHING, static=STATIC, mask=mask)
    torch.testing.assert_close(masked, module(X, NAMES, patching=PATCHING, static=STATIC))


def test_masked_cells_have_no_influence_and_no_gradient_but_are_seen():
    module = tokenizer()
    mask = random(*X.shape, seed=9) > 0
    spoilt = torch.where(mask, X, torch.nan).requires_grad_()
    masked = module(spoilt, NAMES, patching=PATCHING, static=STATIC, mask=mask)
    zeroed = torch.where(mask, X, 0)
    same = module(zeroed, NAMES, patching=PATCHING, static=STATIC, mask=mask)
    torch.testing.assert_close(masked, same)
    (gradient,) = torch.autograd.grad(masked.square().sum(), spoilt)
    assert (gradient[~mask] == 0).all()
    assert (gradient[mask] != 0).all()
    unseen = module(zeroed, NAMES, patching=PATCHING, static=STATIC)
    assert (masked - unseen).abs().max() > 0.1


def test_a_region_with_nothing_at_all_is_finite():
    nothing = torch.zeros(X.shape, dtype=torch.bool)
    module = tokenizer()
    assert module(X, NAMES, patching=PATCHING, static=STATIC, mask=nothing).isfinite().all()


def test_static_features_enter_additively():
    module = tokenizer()
    a, b = (module(X, NAMES, patching=PATCHING, static=s) for s in (STATIC, 0 * STATIC))
    expected = module.static(STATIC).expand_as(a)
    torch.testing.assert_close(a - b, expected)


def test_the_same_weights_serve_another_grid():
    config = TokenizerConfig(variables=NAMES, patch=(2, 4), width=12, heads=3, static=25)
    module = Tokenizer(config)
    for g in (REGION, grid("15deg")):
        patching = Patching(g, (2, 4))
        static = torch.as_tensor(grid_features(patching), dtype=torch.float32)
        x = torch.zeros(2, 3, *g.shape)
        tokens = module(x, NAMES, patching=patching, static=static)
        assert tokens.shape == (2, patching.tokens(), 12)


def test_vectors_change_sign_over_the_pole():
    """The padding row of a vector is that of a scalar with the other sign."""
    settings = {"variables": ("u",), "patch": (5, 48), "width": 4, "heads": 1}
    vector = Tokenizer(TokenizerConfig(**settings, vectors=("u",))).double()
    scalar = Tokenizer(TokenizerConfig(**settings)).double()
    scalar.load_state_dict(vector.state_dict())
    x, patching = random(1, 24, 48), Patching(grid("7.5deg"), (5, 48))
    beyond = torch.where(torch.arange(25)[:, None] < 24, 1, -1)
    flat = Patching(PlaneGrid((25, 48), (1.0, 1.0)), (5, 48))
    expected = scalar(beyond * patching.pad(x), ["u"], patching=flat)
    torch.testing.assert_close(vector(x, ["u"], patching=patching), expected)


def test_gradients():
    module = tokenizer()
    mask = random(*X.shape, seed=9) > 0
    x = X.clone().requires_grad_()

    def call(x, *parameters):
        named = dict(zip(dict(module.named_parameters()), parameters, strict=True))
        arguments = {"patching": PATCHING, "static": STATIC, "mask": mask}
        return torch.func.functional_call(module, named, (x, NAMES), arguments).sum(-1)

    assert torch.autograd.gradcheck(call, (x, *module.parameters()), fast_mode=True)


def test_fields_start_at_zero_and_follow_their_own_heads():
    module = Detokenizer(CONFIG).double()
    tokens = random(2, PATCHING.tokens(), 12)
    fields = module(tokens, NAMES, patching=PATCHING)
    assert fields.shape == (2, 3, *REGION.shape)
    assert (fields == 0).all()
    for i, parameter in enumerate(module.parameters()):
        parameter.data = random(*parameter.shape, seed=i)
    fields = module(tokens, NAMES, patching=PATCHING)
    few = module(tokens, ["v", "t"], patching=PATCHING)
    torch.testing.assert_close(few, fields[:, [2, 0]])
    expected = module.weight[1] @ tokens[0, 4] + module.bias[1]  # second row, second of 3 columns
    torch.testing.assert_close(fields[0, 1, 2:4, 4:8].flatten(), expected)


def test_a_compiler_sees_one_graph():
    module, back = tokenizer(), Detokenizer(CONFIG).double()
    patching = Patching(grid("45deg-poles"), (2, 4))  # 5 rows: padded over the pole
    x, static = random(2, 3, *patching.grid.shape), random(patching.tokens(), 5)

    def call(x):
        tokens = module(x, NAMES, patching=patching, static=static)
        return tokens, back(tokens, NAMES, patching=patching)

    compiled = torch.compile(call, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), call(x))


def test_any_leading_dimensions_will_do():
    module, back = tokenizer(), Detokenizer(CONFIG).double()
    x = random(2, 4, 3, *REGION.shape)
    tokens = module(x, NAMES, patching=PATCHING, static=STATIC)
    first = module(x[1, 2], NAMES, patching=PATCHING, static=STATIC)
    torch.testing.assert_close(tokens[1, 2], first)
    assert back(tokens, NAMES, patching=PATCHING).shape == x.shape


def test_the_package_does_not_need_torch():
    code = "import sys, stormda.grid; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"variables": ("t", "t")},
            r"variables: expected names, each once, got \('t', 't'\)",
        ),
        ({"patch": (0, 4)}, r"patch: expected positive numbers of cells, got \(0, 4\)"),
        ({"heads": 5}, "heads: expected a positive divisor of width=128, got 5"),
        ({"static": -1}, "static: expected a number of features, got -1"),
        ({"vectors": ("q",)}, r"vectors: expected names of variables, got \['q'\]"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TokenizerConfig(**({"variables": ("t",)} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"names": ("t", "q", "u")},
            r"names: expected some of \('t', 'u', 'v'\), each once, got \('t', 'q', 'u'\)",
        ),
        (
            {"names": ("t",)},
            r"x: expected dimensions \(\*batch, 1 variables, rows, cols\), "
            r"got shape \(2, 3, 7, 9\)",
        ),
        (
            {"patching": Patching(REGION, (4, 4))},
            r"patching: expected patch \(2, 4\) of 1 frame, got \(4, 4\) of 1",
        ),
        ({"static": None}, r"static: expected last dimensions \(12, 5\), got None"),
        (
            {"mask": torch.ones(3, 7, 9)},
            r"mask: expected bool that broadcasts to \(2, 3, 7, 9\), "
            r"got torch.float32 of shape \(3, 7, 9\)",
        ),
        (
            {"mask": torch.ones(7, 8, dtype=torch.bool)},
            r"mask: expected bool that broadcasts to \(2, 3, 7, 9\), "
            r"got torch.bool of shape \(7, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"x": X, "names": NAMES, "patching": PATCHING, "static": STATIC} | change
    with pytest.raises(ValueError, match=f"^{message}$"):
        tokenizer()(**arguments)


def test_tokens_of_another_grid_are_refused():
    message = r"^tokens: expected last dimensions \(12, 12\), got shape \(2, 24, 12\)$"
    with pytest.raises(ValueError, match=message):
        Detokenizer(CONFIG)(torch.zeros(2, 24, 12), NAMES, patching=PATCHING)


def test_the_layout_of_stored_weights_is_kept():
    """Weight files written by earlier versions load: names and shapes never change."""
    plain = TokenizerConfig(variables=("a", "b"), patch=(4, 4), width=8, heads=2, static=17)
    shapes = {name: tuple(value.shape) for name, value in Tokenizer(plain).state_dict().items()}
    assert shapes == {
        "weight": (2, 33, 8),
        "query": (2, 8),
        "project.weight": (8, 8),
        "project.bias": (8,),
        "static.weight": (8, 17),
    }
    back = {name: tuple(value.shape) for name, value in Detokenizer(plain).state_dict().items()}
    assert back == {"weight": (2, 16, 8), "bias": (2, 16)}


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_chunks_change_neither_values_nor_gradients(chunk):
    cells, weight, query = random(3, 7, 5), random(3, 5, 12), random(4, 12)
    present = random(3, 7, seed=1) > 0
    inputs = [t.requires_grad_() for t in (cells, weight, query)]
    whole = aggregate(*inputs, present)
    parts = aggregate(*inputs, present, chunk=chunk)
    torch.testing.assert_close(parts, whole)
    seed = random(7, 12, seed=2)
    for a, b in zip(
        torch.autograd.grad(parts, inputs, seed),
        torch.autograd.grad(whole, inputs, seed),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_a_chunked_tokenizer_is_the_same():
    module, chunked = tokenizer(), Tokenizer(replace(CONFIG, chunk=5)).double()
    chunked.load_state_dict(module.state_dict())
    mask = random(*X.shape, seed=9) > 0
    arguments = {"patching": PATCHING, "static": STATIC, "mask": mask}
    torch.testing.assert_close(chunked(X, NAMES, **arguments), module(X, NAMES, **arguments))


LEVELS = TokenizerConfig(variables=NAMES, patch=(2, 4), width=12, heads=3, levels=True)


def with_levels():
    modules = Tokenizer(LEVELS).double(), Detokenizer(LEVELS).double()
    for module in modules:
        for i, parameter in enumerate(module.parameters()):
            parameter.data = random(*parameter.shape, seed=i) / 3
    return modules


def test_a_level_adds_its_embedding_to_its_channel():
    """Slow twin: the variable's own matrix, with the level's features beside the constant."""
    module, _ = with_levels()
    x, names, pressures = random(3, *REGION.shape), ["t", "t", "u"], [85_000.0, 50_000.0, None]
    got = module(x, names, levels=pressures, patching=PATCHING)
    cells = rearrange(PATCHING.pad(x), "v (r y) (c x) -> v (r c) (y x)", y=2, x=4)
    cells = torch.nn.functional.pad(cells, (0, 1), value=1.0)
    weight = module.weight[[0, 0, 1]][:, :9].clone()
    for i, pressure in enumerate(pressures[:2]):
        weight[i, 8] += module.level(torch.as_tensor(level_features(pressure)))
    everywhere = torch.ones(3, PATCHING.tokens(), dtype=torch.bool)
    expected = module.project(slow_aggregate(cells, weight, module.query, everywhere))
    torch.testing.assert_close(got, expected)


def test_levels_may_come_in_any_order_and_number():
    module, back = with_levels()
    x, names, levels = random(3, *REGION.shape), ["t", "t", "u"], [85_000.0, 50_000.0, None]
    tokens = module(x, names, levels=levels, patching=PATCHING)
    order = [1, 2, 0]
    shuffled = [names[i] for i in order], [levels[i] for i in order]
    again = module(x[order], shuffled[0], levels=shuffled[1], patching=PATCHING)
    torch.testing.assert_close(again, tokens)
    fields = back(tokens, names, levels=levels, patching=PATCHING)
    few = back(tokens, ["t"], levels=[50_000.0], patching=PATCHING)
    torch.testing.assert_close(few[0], fields[1])
    assert (fields[0] - fields[1]).abs().max() > 0.01
    plain = back(tokens, ["u"], patching=PATCHING)
    torch.testing.assert_close(plain[0], fields[2])


SEVERAL = TokenizerConfig(
    variables=NAMES, patch=(2, 4), width=12, heads=3, frames=2, static=5, vectors=("u",)
)


def test_tokens_of_several_frames_are_those_of_the_frames_as_variables_side_by_side():
    module, back = Tokenizer(SEVERAL).double(), Detokenizer(SEVERAL).double()
    patching = Patching(REGION, (2, 4), frames=2)
    x = random(2, 4, 3, *REGION.shape)
    tokens = module(x, NAMES, patching=patching, static=STATIC)
    assert tokens.shape == (2, patching.tokens(4), 12)
    n = patching.tokens()
    second = module(x[1, 2:], NAMES, patching=patching, static=STATIC)
    torch.testing.assert_close(tokens[1, n:], second)
    patches = patching.patchify(x[1], vectors=[1])
    alone = module.embed(patches, NAMES) + module.static(torch.cat([STATIC, STATIC]))
    torch.testing.assert_close(tokens[1], alone)
    for i, parameter in enumerate(back.parameters()):
        parameter.data = random(*parameter.shape, seed=i)
    fields = back(tokens, NAMES, patching=patching)
    assert fields.shape == x.shape
    expected = back.weight[1] @ tokens[0, n] + back.bias[1]  # u in the first patch of frames 2, 3
    torch.testing.assert_close(fields[0, 2:, 1, :2, :4].flatten(), expected)


@pytest.mark.parametrize("name", ["healpix4", "healpix4-ring", "o4"])
def test_lists_of_cells_are_tokenized_like_any_grid(name):
    config = TokenizerConfig(variables=NAMES, patch=(2, 2), width=12, heads=3)
    module, back = Tokenizer(config).double(), Detokenizer(config).double()
    patching = Patching(grid(name), (2, 2))
    x = random(2, 3, *patching.grid.shape)
    tokens = module(x, NAMES, patching=patching)
    one_by_one = module.embed(patching.patchify(x[1][None]), NAMES)
    torch.testing.assert_close(tokens[1], one_by_one)
    mask = random(*x.shape, seed=4) > 0
    spoilt = torch.where(mask, x, torch.nan)
    assert module(spoilt, NAMES, patching=patching, mask=mask).isfinite().all()
    assert back(tokens, NAMES, patching=patching).shape == x.shape


def test_the_date_line_is_no_seam():
    """Turning the globe by whole patches turns the tokens, whatever the longitude of the edge."""
    config = TokenizerConfig(variables=NAMES, patch=(4, 4), width=12, heads=3)
    module, patching = Tokenizer(config).double(), Patching(grid("15deg"), (4, 4))
    x = random(3, 12, 24)
    tokens = rearrange(module(x, NAMES, patching=patching), "(r c) d -> r c d", c=6)
    turned = module(x.roll(8, -1), NAMES, patching=patching)
    torch.testing.assert_close(turned, rearrange(tokens.roll(2, 1), "r c d -> (r c) d"))


def test_fields_that_do_not_change_may_be_among_the_variables():
    config = TokenizerConfig(variables=("t", "orography"), patch=(2, 4), width=12, heads=3)
    module, back = Tokenizer(config), Detokenizer(config)
    x = torch.stack([torch.randn(7, 9), torch.ones(7, 9)])
    tokens = module(x, ["t", "orography"], patching=PATCHING)
    assert back(tokens, ["t"], patching=PATCHING).shape == (1, 7, 9)


@pytest.mark.parametrize(("old", "new"), [((2, 2), (4, 4)), ((2, 3), (5, 3)), ((3, 3), (3, 3))])
def test_weights_serve_patches_of_another_size(old, new):
    """Tokens of an interpolated patch are those of the patch; fields are the interpolated ones."""
    config = TokenizerConfig(variables=NAMES, patch=old, width=12, heads=3)
    module, back = Tokenizer(config).double(), Detokenizer(config).double()
    for i, parameter in enumerate([*module.parameters(), *back.parameters()]):
        parameter.data = random(*parameter.shape, seed=i)
    b = torch.as_tensor(bilinear_matrix(old, new))
    coarse, fine = (Patching(PlaneGrid((3 * p[0], 4 * p[1]), (1, 1)), p) for p in (old, new))
    x = random(1, 3, *coarse.grid.shape)
    patches = rearrange(coarse.patchify(x), "n (v k) -> n v k", v=3)
    finer = fine.unpatchify(rearrange(patches @ b.T, "n v k -> n (v k)"))
    tokens = module(x[0], NAMES, patching=coarse)
    again = resize_tokenizer(module, new)(finer[0], NAMES, patching=fine)
    torch.testing.assert_close(again, tokens)
    fields = back(tokens, NAMES, patching=coarse)
    expected = rearrange(coarse.patchify(fields[None]), "n (v k) -> n v k", v=3) @ b.T
    expected = fine.unpatchify(rearrange(expected, "n v k -> n (v k)"))[0]
    got = resize_detokenizer(back, new)(tokens, NAMES, patching=fine)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: resize_tokenizer(Tokenizer(SEVERAL), (4, 4)),
            r"patch: expected rows and columns of 1 frame, got \(2, 4\) of 2",
        ),
        (lambda: replace(CONFIG, chunk=0), "chunk: expected a positive number, got 0"),
        (lambda: replace(CONFIG, frames=0), "frames: expected a positive number, got 0"),
        (
            lambda: CONFIG.indices(["t"], [5e4]),
            r"levels: expected none, by the configuration, got \[50000.0\]",
        ),
        (
            lambda: LEVELS.indices(["t", "u"], [5e4]),
            r"levels: expected 2 pressures, got \[50000.0\]",
        ),
        (
            lambda: LEVELS.indices(["t", "t"], [5e4, 5e4]),
            r"names: expected some of \('t', 'u', 'v'\), each once, got \['t', 't'\]",
        ),
        (
            lambda: Tokenizer(LEVELS).embed(torch.zeros(3, 9), ["t"]),
            r"patches: expected shape \(n, 8\), got \(3, 9\)",
        ),
        (
            lambda: Tokenizer(SEVERAL)(
                torch.zeros(3, 7, 9),
                NAMES,
                patching=Patching(REGION, (2, 4), 2),
                static=STATIC.float(),
            ),
            r"x: expected dimensions \(\*batch, time, 3 variables, rows, cols\), "
            r"got shape \(3, 7, 9\)",
        ),
        (
            lambda: Tokenizer(SEVERAL)(
                torch.zeros(4, 3, 7, 9), NAMES, patching=PATCHING, static=STATIC.float()
            ),
            r"patching: expected patch \(2, 4\) of 2 frames, got \(2, 4\) of 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
