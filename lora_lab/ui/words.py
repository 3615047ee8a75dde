"""Numbers and names as people read them, and HTML from pieces that are escaped. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping


def esc(text: object) -> str:
    """For HTML, in text and in attributes."""
    return html.escape(str(text), quote=True)


def tag(name: str, inner: str = "", css: str = "", **attributes: object) -> str:
    """An element. `inner` is HTML already; attribute values are escaped; ``data_use`` becomes ``data-use``."""
    return f"<{name}{_attributes(css, attributes)}>{inner}</{name}>"


def own(name: str, text: object) -> str:
    """An element with a text of the user's, such as a name, which no translation touches."""
    return tag(name, esc(text), translate="no")


def void(name: str, css: str = "", **attributes: object) -> str:
    """An element that has no inside: ``img``, ``input``."""
    return f"<{name}{_attributes(css, attributes)}>"


def _attributes(css: str, attributes: Mapping[str, object]) -> str:
    given = {"class": css, **{key.replace("_", "-"): value for key, value in attributes.items()}}
    return "".join(f' {key}="{esc(value)}"' for key, value in given.items() if value not in ("", None))


def duration(seconds: float) -> str:
    """``45 s``, ``2 min 5 s``, ``1 h 20 min``."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def speed(seconds_per_step: float) -> str:
    """``2.1 steps/s``, or ``3.4 s/step`` when a step takes longer than a second."""
    if seconds_per_step <= 0:
        return "-"
    return f"{1 / seconds_per_step:.1f} steps/s" if seconds_per_step < 1 else f"{seconds_per_step:.1f} s/step"


def memory(megabytes: float) -> str:
    """``512 MB`` or ``5.2 GB``."""
    return f"{megabytes / 1024:.1f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def rate(value: float) -> str:
    """A learning rate: ``1e-4``, ``2.5e-5``, ``0``."""
    if not value:
        return "0"
    if 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def number(value: float) -> str:
    """As short as it can be and still read back to the same: ``16``, ``0.0001``, ``1e-05``."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


def count(how_many: int, one: str, many: str = "") -> str:
    """``1 picture``, ``18 pictures``."""
    return f"{how_many:,} {one if how_many == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """With a full stop, and a capital unless it begins with the name of a setting."""
    name = "_" in text.split(" ", 1)[0]
    return (text if name else text[:1].upper() + text[1:]) + "."


def bar(share: float, *, label: str) -> str:
    """A progress bar from 0 to 1."""
    percent = max(0.0, min(1.0, share)) * 100
    fill = tag("i", style=f"width:{percent:.1f}%")
    return tag("div", fill, "lora-lab-bar", role="progressbar", aria_valuenow=f"{percent:.0f}", aria_label=label)


def listed(texts: Iterable[str]) -> str:
    """With commas between, each a text of its own to the page and its translation."""
    return ", ".join(tag("span", esc(text)) for text in texts)


def bullets(items: Iterable[str], css: str = "") -> str:
    """A list; the items are HTML already."""
    inner = "".join(tag("li", item) for item in items)
    return tag("ul", inner, css) if inner else ""
