"""weighted_captions: brackets as kohya's scripts read them, states weighed as a plain loop weighs them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.training.text.brackets import parse, plain

KOHYAS = {
    "mika, (red hair:1.3), hat": [("mika, ", 1.0), ("red hair", 1.3), (", hat", 1.0)],
    "(a), [b], ((c)), d": [("a", 1.1), (", ", 1.0), ("b", 1 / 1.1), (", ", 1.0), ("c", 1.21), (", d", 1.0)],
    "(a:1.5": [("a:1.5", 1.1)],
    "a) b] :1.3)": [("a) b] :1.3)", 1.0)],
    "x \\(y\\) (z \\[w\\]:0.5)": [("x (y) ", 1.0), ("z [w]", 0.5)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
        ("sky", 1.4641), (".", 1.1),
    ],
    "": [("", 1.0)],
    "[a, (b:2), c]": [("a, ", 1 / 1.1), ("b", 2 / 1.1), (", c", 1 / 1.1)],
    "(a:1.2)(b:1.2)": [("ab", 1.2)],
    "time: 3, (4:5:0.5)": [("time: 3, ", 1.0), ("4:5", 0.5)],
    "\\ back \\\\slash": [(" back \\slash", 1.0)],
    "[a:0.5]": [("a:0.5", 1 / 1.1)],
}  # fmt: skip
"""What kohya's `parse_prompt_attention` answers."""


@pytest.mark.parametrize("text", list(KOHYAS))
def test_brackets_are_read_as_kohya_reads_them(text: str) -> None:
    found = parse(text)
    assert [word for word, _ in found] == [word for word, _ in KOHYAS[text]]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in KOHYAS[text]])


@given(st.text(st.sampled_from("ab ,:().[]\\1"), max_size=30))
def test_any_text_is_read(text: str) -> None:
    found = parse(text)
    assert found
    assert all(a[1] != b[1] for a, b in zip(found, found[1:], strict=False)), "neighbours of one weight are one"
    letters = [c for c in text if c in "ab"]
    assert [c for word, _ in found for c in word if c in "ab"] == letters, "no word is lost"


torch = pytest.importorskip("torch")


def model() -> Any:
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    from .running import MODEL

    return MODEL


SHIFT = 0.2
"""A text encoder with random weights has states whose mean is nothing; CLIP's is about a tenth of their deviation."""


def by_hand(live: Any, caption: str, length: int, *, rescale: bool) -> Any:
    """A caption's states, weighed token by token."""
    pieces = parse(caption)
    tokens = live.tokenize([plain(pieces)], length)
    states = live.encode_tokens(tokens).context[0] + SHIFT
    weights = []
    for word, weight in pieces:
        weights += [weight] * len(word.replace(",", " , ").split())
    found = states.clone()
    for place in range(len(states)):
        chunk, inside = divmod(place, 77)
        token = chunk * 75 + inside - 1
        if 1 <= inside <= 75 and token < len(weights):
            found[place] = states[place] * weights[token]
    return found * (states.mean() / found.mean()) if rescale else found


LONG = "start, " + "(word:1.4) and " * 40


@pytest.mark.parametrize("caption", ["mika, (red hair:1.3), [hat]", "plain", "", LONG, "(all:0.5)"])
@pytest.mark.parametrize("length", [75, 225])
@pytest.mark.parametrize("rescale", [True, False])
def test_states_are_weighed_as_by_hand(caption: str, length: int, rescale: bool) -> None:
    from lora_lab.training.text.weighted import weigh

    live = model()
    with torch.no_grad():
        weighed = weigh(live, [caption], length)
        found = weighed.apply(live.encode_tokens(weighed.tokens).context + SHIFT, rescale=rescale)
        judge = by_hand(live, caption, length, rescale=rescale)
        torch.testing.assert_close(found[0], judge, rtol=1e-4, atol=1e-5)
        both = weigh(live, ["x", caption, LONG], length)
        mixed = both.apply(live.encode_tokens(both.tokens).context + SHIFT, rescale=rescale)[1]
    torch.testing.assert_close(mixed[: len(judge)], judge, rtol=1e-4, atol=1e-5)


def test_without_brackets_nothing_changes_and_a_graph_goes_through() -> None:
    from lora_lab.training.text.weighted import weigh

    live = model()
    weighed = weigh(live, ["mika, hat", "girl"], 75)
    states = live.encode_tokens(weighed.tokens).context.detach().requires_grad_()
    torch.testing.assert_close(weighed.apply(states, rescale=True), states, rtol=1e-5, atol=1e-6)
    weighed = weigh(live, ["(mika:2), hat", "girl"], 75)
    weighed.apply(states, rescale=True).square().sum().backward()
    assert states.grad is not None
    assert float(states.grad.abs().min()) > 0
