"""Laws of the tokenizer: its slow twin, any subset and order, harmless gaps, gradients."""

import subprocess
import sys

import pytest
import torch
from einops import rearrange

from stormda.grid import LatLonGrid, Patching, PlaneGrid, grid, grid_features
from stormda.grid.tokenizer import Detokenizer, Tokenizer, TokenizerConfig, aggregate

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
