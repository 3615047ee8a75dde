"""The low-rank mathematics against torch's full SVD."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_lab.errors import SettingsError
from lora_lab.surgery import lowrank, ranks
from lora_lab.surgery.ranks import RankRule, Spectrum

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ratio(matrix: Tensor, rank: int) -> float:
    """Our residual, measured, over the best possible one by the full SVD."""
    up, down = lowrank.factor(matrix, rank).cut(rank)
    best = torch.linalg.svdvals(matrix.double())[rank:].square().sum().sqrt()
    return float((matrix - up @ down).double().norm() / best)


@pytest.mark.parametrize("shape", [(500, 640), (640, 500), (300, 900)])
def test_white_noise_within_four_in_a_thousand(shape: tuple[int, int]) -> None:
    assert ratio(noise(*shape), 16) <= 1.004


@pytest.mark.parametrize("shape", [(500, 640), (700, 500)])
@pytest.mark.parametrize("true_rank", [8, 24])
def test_low_rank_plus_noise_within_one_in_a_thousand(shape: tuple[int, int], true_rank: int) -> None:
    m, n = shape
    assert ratio(0.1 * noise(m, true_rank) @ noise(true_rank, n, seed=1) + 0.05 * noise(m, n, seed=2), 16) <= 1.001


@pytest.mark.parametrize("power", [0.3, 0.5, 1.0, 3.0])
def test_falling_spectra_within_one_in_a_thousand(power: float) -> None:
    u, v = torch.linalg.qr(noise(520, 520))[0], torch.linalg.qr(noise(600, 520, seed=1))[0]
    assert ratio((u * torch.arange(1, 521).float() ** -power) @ v.T, 16) <= 1.001


@pytest.mark.parametrize("rank", [1, 5, 12])
def test_exact_low_rank_comes_back(rank: int) -> None:
    up, down = noise(600, 5), noise(5, 700, seed=1)
    low = lowrank.factor(up @ down, rank)
    again = torch.matmul(*low.cut(rank))
    if rank >= 5:
        assert (again - up @ down).norm() <= 1e-5 * (up @ down).norm()
    want = torch.linalg.svdvals((up @ down).double())[: min(rank, 5)]
    assert torch.allclose(low.s[: min(rank, 5)], want, rtol=1e-5)


def test_the_iteration_is_the_one_measured() -> None:
    """The bars above hold for the Krylov way, not for the exact one that small sides take."""
    low = lowrank.factor(noise(500, 640), 16)
    assert not low.complete
    assert low.rank == 16
    assert torch.equal(low.s, lowrank.factor(noise(500, 640), 16).s), "the same every time"


@settings(max_examples=80, deadline=None)
@given(SHAPES, st.integers(1, 45), st.integers(0, 10**6))
def test_small_matrices_equal_the_full_svd(shape: tuple[int, int], rank: int, seed: int) -> None:
    matrix = noise(*shape, seed=seed)
    low = lowrank.factor(matrix, rank)
    s = torch.linalg.svdvals(matrix.double())
    kept = min(rank, *shape)
    assert low.rank == kept
    assert torch.allclose(low.s, s[:kept], rtol=1e-5, atol=1e-6 * float(s[0]))
    assert low.residual(kept) == pytest.approx(float(s[kept:].square().sum().sqrt()), rel=1e-4, abs=2e-3 * float(s[0]))
    eye = torch.eye(kept)
    assert torch.allclose(low.u.T @ low.u, eye, atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(SHAPES, st.integers(1, 45), st.integers(0, 10**6))
def test_products_equal_the_full_svd(shape: tuple[int, int], rank: int, seed: int) -> None:
    up, down = noise(shape[0], rank, seed=seed), noise(rank, shape[1], seed=seed + 1)
    low = lowrank.factor_product(up, down)
    dense = (up.double() @ down.double())
    s = torch.linalg.svdvals(dense)
    assert low.complete
    assert torch.allclose(low.s, s[: low.rank], rtol=1e-5, atol=1e-5 * float(s[0]))
    again = torch.matmul(*low.cut(low.rank))
    assert (again - dense).norm() <= 1e-5 * dense.norm()
    assert lowrank.product_norm(up, down) == pytest.approx(float(dense.norm()), rel=1e-5)


def test_sums_of_products() -> None:
    pairs = [(noise(30, r, seed=r), noise(r, 20, seed=r + 9)) for r in (1, 3, 4)]
    dense = sum((u @ d for u, d in pairs), torch.zeros(30, 20))
    low = lowrank.factor_sum(pairs)
    assert torch.allclose(torch.matmul(*low.cut(8)), dense, atol=1e-5)


def test_zeros_have_rank_zero() -> None:
    for low in (
        lowrank.factor(torch.zeros(300, 400), 4),
        lowrank.factor_all(torch.zeros(30, 4)),
    ):
        assert (low.rank, low.energy, low.complete) == (0, 0.0, True)
        assert RankRule("sv_fro", 0.9).of(low.s, low.energy) == 0


def oracle(s: list[float], kind: str, value: float) -> int:
    """The rules once more, in the plainest way."""
    counted = {
        "threshold": lambda: sum(x > value for x in s),
        "ratio": lambda: sum(x > value * s[0] for x in s),
        "sv_ratio": lambda: sum(x > s[0] / value for x in s),
    }
    if kind in counted:
        return counted[kind]()
    for k in range(1, len(s) + 1):
        if kind == "sv_cumulative" and math.fsum(s[:k]) >= value * math.fsum(s) * (1 - 1e-9):
            return k
        left = math.sqrt(math.fsum(x * x for x in s[k:]))
        norm = math.sqrt(math.fsum(x * x for x in s))
        if kind == "sv_fro" and math.sqrt(max(0.0, norm**2 - left**2)) >= value * norm * (1 - 1e-9):
            return k
        if kind == "error" and left <= value * norm * (1 + 1e-9):
            return k
    return len(s)


RULES = st.one_of(
    st.tuples(st.sampled_from(["ratio", "sv_cumulative", "sv_fro", "error"]), st.floats(0.02, 0.98)),
    st.tuples(st.just("threshold"), st.floats(0, 8)),
    st.tuples(st.just("sv_ratio"), st.floats(1, 30)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30), RULES)
def test_every_rule_equals_its_plain_words(values: list[float], rule: tuple[str, float]) -> None:
    s = sorted(values, reverse=True)
    energy = math.fsum(x * x for x in s)
    got = ranks.parse(f"{rule[0]}={rule[1]!r}").of(torch.tensor(s, dtype=torch.float64), energy)
    assert got == oracle(s, *rule)


def test_not_one_too_many() -> None:
    """kohya's dynamic rules before its fix gave 3, 3 and 2 here."""
    s = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)
    assert RankRule("sv_cumulative", 0.7).of(s, 30) == 2
    assert RankRule("sv_fro", (25 / 30) ** 0.5).of(s, 30) == 2
    assert RankRule("sv_ratio", 1.01).of(s, 30) == 1


@pytest.mark.parametrize(
    "rule", ["ratio=0.3", "sv_ratio=3", "sv_fro=0.7", "sv_cumulative=0.5", "threshold=6", "error=0.6"]
)
def test_rules_find_their_rank_in_big_matrices(rule: str) -> None:
    u, v = torch.linalg.qr(noise(520, 520))[0], torch.linalg.qr(noise(600, 520, seed=1))[0]
    s = 20 * torch.arange(1, 521).double() ** -0.4
    low, rank = ranks.factor_by((u * s.float()) @ v.T, ranks.parse(rule))
    assert rank == oracle(s.tolist(), ranks.parse(rule).kind, ranks.parse(rule).value)
    assert low.rank >= rank


def test_most_caps_the_rank() -> None:
    assert ranks.factor_by(noise(300, 300), ranks.parse("sv_fro=0.99", most=7))[1] == 7
    assert ranks.factor_by(noise(30, 9), ranks.parse("64"))[1] == 9


@pytest.mark.parametrize(
    "text",
    ["0", "-4", "1.5", "nan", "inf", "sv_fro=1.2", "sv_fro=0", "ratio=-1", "sv_ratio=0.5", "best=3", "sv_fro=x", ""],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        ranks.parse(text)
    with pytest.raises(SettingsError):
        ranks.parse("32", most=0)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.tuples(st.lists(st.floats(0.1, 9), min_size=1, max_size=5), st.integers(1, 3)),
        min_size=1,
    ),
    st.integers(0, 30),
)
def test_shares_are_the_best_for_their_price(table: dict[str, tuple[list[float], int]], budget: int) -> None:
    spectra = {
        name: Spectrum(sorted(s, reverse=True), math.fsum(x * x for x in s), cost) for name, (s, cost) in table.items()
    }
    got = ranks.share_bytes(spectra, budget)
    assert sum(spectra[n].cost * k for n, k in got.items()) <= budget

    def left(choice: dict[str, int]) -> float:
        return math.fsum(x * x for n, k in choice.items() for x in spectra[n].s[k:])

    # No other choice of the same price or less leaves less out, once the last rank that did not fit is set aside.
    spent = sum(spectra[n].cost * k for n, k in got.items())
    choices: list[dict[str, int]] = [{}]
    for name, spectrum in spectra.items():
        choices = [c | {name: k} for c in choices for k in range(len(spectrum.s) + 1)]
    best = min(left(c) for c in choices if sum(spectra[n].cost * k for n, k in c.items()) <= spent)
    slack = max((x * x / spectra[n].cost for n in spectra for x in spectra[n].s[got[n] : got[n] + 1]), default=0.0)
    assert left(got) <= best + 3 * slack + 1e-9
    wanted = left(got) ** 0.5 / math.fsum(x.energy for x in spectra.values()) ** 0.5
    cheap = ranks.share_error(spectra, min(1.0, wanted + 1e-6))
    assert left(cheap) ** 0.5 <= (wanted + 2e-6) * math.fsum(x.energy for x in spectra.values()) ** 0.5
