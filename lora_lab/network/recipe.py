"""What kind of adapter is made, and how: everything about it but its sizes. No torch."""

from __future__ import annotations

from dataclasses import dataclass

ALGOS = (
    "lora", "locon", "loha", "lokr", "ia3", "dylora", "lora-fa", "diag-oft", "boft", "oft", "glora", "full",
)  # fmt: skip
"""Kinds that can be trained, in kohya's and LyCORIS's words; `oft` is kohya's own way of counting its blocks."""


@dataclass(frozen=True)
class Recipe:
    """The kind of a piece and its options; kohya's and LyCORIS's names."""

    algo: str = "lora"
    """One of `ALGOS`. A norm layer gets a piece of its own whatever this says."""
    dropout: float = 0.0
    """Share of the down projection's output that is dropped in training (network_dropout)."""
    rank_dropout: float = 0.0
    """LoRA: chance of each rank, in each sample, to be left out of a step; the others are made larger for it. Other
    kinds: chance of each output of the layer to be left unchanged in a step."""
    module_dropout: float = 0.0
    """Chance of the whole piece to be left out of a step."""
    rank_dropout_scale: bool = False
    """Make the outputs that rank_dropout leaves larger for those that it took (kinds beside LoRA)."""
    rs_lora: bool = False
    """Scale by alpha / sqrt(dim) instead of alpha / dim (arXiv 2312.03732); the file's alpha says so to all readers."""
    use_tucker: bool = False
    """A core tensor between the factors of larger kernels (arXiv 2309.14859, section 3)."""
    use_scalar: bool = False
    """One more trained number, 0 at first, as factor of the whole piece; every other starts at random then."""
    dora_wd: bool = False
    """DoRA: train the lengths of the weight's rows or columns apart from their directions (arXiv 2402.09353)."""
    wd_on_output: bool = False
    """DoRA's lengths are those of the outputs; False (of the inputs) is the form that the webui reads."""
    decompose_both: bool = False
    """LoKr: the smaller of the two matrices in two factors as well."""
    factor: int = -1
    """LoKr: size of the smaller matrix; -1 is as square as can be."""
    full_matrix: bool = False
    """LoKr: no factors."""
    unbalanced_factorization: bool = False
    """LoKr: the outputs' larger share into the smaller matrix."""
    constraint: float = 0.0
    """OFT and BOFT: how far a layer may turn, times its outputs; 0 is no limit."""
    rescaled: bool = False
    """OFT and BOFT: a trained factor for each output."""
    train_on_input: bool = False
    """IA3: scale the layer's inputs instead of its outputs."""
    block_size: int = 1
    """DyLoRA: ranks that are trained together; it divides dim."""

    @property
    def plain(self) -> bool:
        """Is it a LoRA of two factors and nothing else?"""
        return self.algo in ("lora", "locon") and not (self.use_tucker or self.use_scalar or self.dora_wd)
