"""The best low-rank approximation of a matrix, and how far it is from the matrix.

Small pure functions on float32 matrices of any device. Singular values come out in float64, largest first.

* :func:`factor`: the leading part. A Gram matrix in float64 where a side is small, else block Krylov iteration
  (C. Musco and C. Musco, arXiv 1504.05477, algorithm 2), which needs about half the passes over the matrix that
  randomised subspace iteration (Halko, Martinsson and Tropp, arXiv 0909.4061) needs on flat spectra, and stops when
  another block no longer improves the residual.
* :func:`factor_all`: every singular value.
* :func:`factor_product`: every singular value of a product `up @ down` without forming it: QR of both factors, SVD
  of the small core (Golub and Van Loan, Matrix Computations, section 5.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SMALL_SIDE = 256
"""Up to this many rows or columns the exact way is the faster one."""

PATIENCE = 6e-4
"""The iteration ends when a block of it shortens the residual by less than this share."""

PIECE = 1 << 16
"""Numbers whose float64 copy stays in a processor's cache."""

WIDE = 2048
"""Columns of a product in float64 that are taken at a time."""

EXHAUSTED = 1e-12
"""Share of the energy below which what is left is float32 rounding."""


@dataclass(frozen=True)
class LowRank:
    """`u @ diag(s) @ vh`, the leading part of a matrix (m, n).

    Attributes:
        u: (m, k), orthonormal columns.
        s: (k,), float64, descending.
        vh: (k, n), orthonormal rows.
        energy: the squared Frobenius norm of the whole matrix.
        complete: `s` holds every singular value that is not zero.
    """

    u: Tensor
    s: Tensor
    vh: Tensor
    energy: float
    complete: bool

    @property
    def rank(self) -> int:
        """How many singular values are held."""
        return int(self.s.numel())

    def cut(self, rank: int) -> tuple[Tensor, Tensor]:
        """`up` (m, rank) and `down` (rank, n) with `up @ down` the part of that rank, of equal weight, so that
        neither of them is small where it is stored in 16 bits."""
        root = self.s[:rank].sqrt().to(self.u.dtype)
        return self.u[:, :rank] * root, root[:, None] * self.vh[:rank]

    def residual(self, rank: int) -> float:
        """The Frobenius norm of what a cut to ``rank`` leaves out."""
        kept = float(self.s[:rank].square().sum())
        return math.sqrt(max(0.0, self.energy - kept))


def energy_of(matrix: Tensor) -> float:
    """The squared Frobenius norm, summed in float64 piece by piece: a whole copy costs more than the sum."""
    total = 0.0
    for piece in torch.split(matrix.reshape(-1), PIECE):
        wide = piece.double()
        total += float(wide @ wide)
    return total


def factor(matrix: Tensor, rank: int, seed: int = 0) -> LowRank:
    """The leading ``rank`` singular triples of a matrix (m, n), or all where it has fewer.

    The residual is at most 1.001 times the best possible one where the spectrum falls, 1.004 times on white noise.
    """
    m, n = matrix.shape
    if m > n:
        return _flipped(factor(matrix.T, rank, seed))
    energy = energy_of(matrix)
    if energy == 0:
        return _nothing(matrix)
    block = max(8, (rank + 1) // 2)
    if m <= SMALL_SIDE or 8 * block > m // 2:
        return _by_gram(matrix, min(rank, m), energy)
    return _by_krylov(matrix, rank, block, energy, seed)


def factor_all(matrix: Tensor) -> LowRank:
    """Every singular triple of a matrix (m, n)."""
    m, n = matrix.shape
    if m > n:
        return _flipped(factor_all(matrix.T))
    energy = energy_of(matrix)
    return _by_gram(matrix, m, energy) if energy else _nothing(matrix)


def factor_product(up: Tensor, down: Tensor) -> LowRank:
    """Every singular triple of `up @ down`, with `up` (m, r) and `down` (r, n)."""
    if up.shape[1] >= min(up.shape[0], down.shape[1]):
        return factor_all(up @ down)
    q1, r1 = torch.linalg.qr(up)
    q2, r2 = torch.linalg.qr(down.T)
    u, s, vh = torch.linalg.svd(r1.double() @ r2.double().T)
    energy = float(s.square().sum())
    return LowRank(q1 @ u.to(up.dtype), s, vh.to(up.dtype) @ q2.T, energy, complete=True)


def factor_sum(pairs: Sequence[tuple[Tensor, Tensor]]) -> LowRank:
    """Every singular triple of the sum of the products `up @ down`."""
    return factor_product(torch.cat([up for up, _ in pairs], 1), torch.cat([down for _, down in pairs], 0))


def product_norm(up: Tensor, down: Tensor) -> float:
    """The Frobenius norm of `up @ down` in O((m + n) r^2): the trace of (up' up)(down down')."""
    gram = (up.T.double() @ up.double()) * (down.double() @ down.T.double())
    return math.sqrt(max(0.0, float(gram.sum())))


def _flipped(low: LowRank) -> LowRank:
    """The factors of the transposed matrix."""
    return LowRank(low.vh.T, low.s, low.u.T, low.energy, low.complete)


def _nothing(matrix: Tensor) -> LowRank:
    """The factors of a matrix of zeros."""
    m, n = matrix.shape
    return LowRank(matrix.new_zeros(m, 0), matrix.new_zeros(0, dtype=torch.float64), matrix.new_zeros(0, n), 0.0, True)


def _by_gram(matrix: Tensor, rank: int, energy: float) -> LowRank:
    """Through the eigenvectors of D D' (m, m) in float64, which resolves ratios down to float32's own."""
    wide = matrix.double()
    values, vectors = torch.linalg.eigh(wide @ wide.T)
    return _leading(vectors.flip(1), values.flip(0), matrix, None, rank, energy)


def _leading(
    vectors: Tensor, values: Tensor, rows: Tensor, basis: Tensor | None, rank: int, energy: float
) -> LowRank:
    """Triples from the eigenvectors of `rows @ rows'`; ``basis`` is what the rows are coordinates in."""
    s = values.clamp_min(0).sqrt()
    kept = int((s > s[0] * 1e-7).sum())
    complete = basis is None and kept <= rank
    kept = min(rank, kept)
    u = vectors[:, :kept].to(rows.dtype)
    vh = (u.T @ rows) / s[:kept, None].to(rows.dtype)
    return LowRank(u if basis is None else basis @ u, s[:kept], vh, energy, complete)


def _by_krylov(matrix: Tensor, rank: int, block: int, energy: float, seed: int) -> LowRank:
    """Block Krylov iteration with full orthogonalisation; m <= n. The rows Q'D of each block are a by-product of
    the next one, so the projection costs no further pass over the matrix."""
    generator = torch.Generator("cpu").manual_seed(seed)
    start = torch.randn(matrix.shape[1], block, generator=generator, dtype=matrix.dtype).to(matrix.device)
    basis = torch.linalg.qr(matrix @ start)[0]
    rows = basis.T @ matrix
    new, before = rows, math.inf
    gram = _grown(None, rows, new)
    while True:
        if basis.shape[1] >= rank + block:
            values, vectors = torch.linalg.eigh(gram)
            left = max(0.0, energy - float(values.flip(0)[:rank].sum()))
            if left <= EXHAUSTED * energy or math.sqrt(left) >= math.sqrt(before) * (1 - PATIENCE):
                break
            before = left
        if basis.shape[1] + block > matrix.shape[0]:
            return _by_gram(matrix, rank, energy)
        added = _orthogonal(matrix @ new.T, basis)
        new = added.T @ matrix
        basis, rows = torch.cat([basis, added], 1), torch.cat([rows, new], 0)
        gram = _grown(gram, rows, new)
    low = _leading(vectors.flip(1), values.flip(0), rows, basis, rank, energy)
    return replace(low, complete=left <= EXHAUSTED * energy)


def _grown(gram: Tensor | None, rows: Tensor, new: Tensor) -> Tensor:
    """`rows @ rows'` in float64, given that of all rows before the `new` ones at the end."""
    side, width = rows.shape[0], new.shape[0]
    edge = torch.zeros(side, width, dtype=torch.float64, device=rows.device)
    for at in range(0, rows.shape[1], WIDE):
        edge += rows[:, at : at + WIDE].double() @ new[:, at : at + WIDE].double().T
    if gram is None:
        return edge
    whole = torch.empty(side, side, dtype=torch.float64, device=rows.device)
    whole[:-width, :-width] = gram
    whole[:, -width:] = edge
    whole[-width:, :] = edge.T
    return whole


def _orthogonal(columns: Tensor, basis: Tensor) -> Tensor:
    """Orthonormal columns, orthogonal to the basis too, even where the columns lie almost in it."""
    for _ in range(2):
        columns = torch.linalg.qr(columns - basis @ (basis.T @ columns))[0]
    return columns
