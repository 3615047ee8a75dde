"""How large the piece at each site is: rank and alpha, from anything that knows a site. No torch.

    Adapter.create(sites, sizes=Size(16, 8.0), ...)                # the same everywhere
    Adapter.create(sites, sizes=by_kernel(Size(16, 8.0), Size(8, 1.0)), ...)   # kohya's conv_dim for 3x3 kernels
    Adapter.create(sites, sizes=lambda site: table.get(site.name), ...)        # None: no piece there
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError

if TYPE_CHECKING:
    from lora_lab.network.sites import Site


@dataclass(frozen=True)
class Size:
    """The size of one piece."""

    dim: int
    """The rank (kohya's network_dim), 1 or more; kinds without a rank ignore it."""
    alpha: float = 0.0
    """kohya's network_alpha; 0 means as large as `dim`."""

    @property
    def strength(self) -> float:
        """The alpha that is in force."""
        return self.alpha or float(self.dim)


Sizes = Callable[["Site"], "Size | None"]
"""The size of a site's piece; None for a site that gets none."""


def by_kernel(usual: Size, conv: Size | None) -> Sizes:
    """kohya's rule: `conv` for kernels larger than 1x1 (None: no piece there), `usual` for all else, also for the
    linear layers and 1x1 convolutions inside residual blocks."""
    return lambda site: conv if site.kind == "conv" else usual


def checked(sizes: Sizes | Size) -> Sizes:
    """`sizes` as a function whose answers are sizes that exist.

    Raises (when asked):
        SettingsError: a dim below 1, a negative alpha.
    """
    ask: Sizes = (lambda _: sizes) if isinstance(sizes, Size) else sizes

    def size(site: Site) -> Size | None:
        found = ask(site)
        if found is not None and found.dim < 1:
            raise SettingsError(f"network_dim {found.dim} is no rank", remedy="choose 1 or more, such as 16")
        if found is not None and found.alpha < 0:
            what = f"network_alpha {found.alpha:g} is no alpha"
            raise SettingsError(what, remedy="choose 0 (as large as dim) or more")
        return found

    return size
