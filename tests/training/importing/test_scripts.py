"""Launch scripts: text in three dialects, followed and never run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.training.importing import arguments, kohya, script
from lora_lab.training.importing.variables import arithmetic
from lora_lab.training.importing.words import Dialect, statements
from lora_lab.training.settings import settings_file

RUN = "accelerate launch train_network.py"


def read(text: str, suffix: str = ".sh") -> dict[str, Any]:
    return script.read(text, suffix).values


@pytest.mark.parametrize(
    ("text", "suffix", "expected"),
    [
        (f"{RUN} --seed=1 --network_dim 8 --flip_aug", ".sh", {"seed": "1", "network_dim": "8", "flip_aug": True}),
        (f"{RUN} --seed=1 --seed=2", ".sh", {"seed": "2"}),
        (f"{RUN} --network_args a=1 'b=x y' --seed 3", ".sh", {"network_args": ["a=1", "b=x y"], "seed": "3"}),
        (f"{RUN} \\\n  # --seed=1 \\\n  --network_dim=4", ".sh", {"network_dim": "4"}),
        (f"{RUN} \\  \n  --seed=1 \\ # a note\n --network_dim=4", ".sh", {"seed": "1", "network_dim": "4"}),
        (f"A=7\nB=$A$A\n{RUN} --seed ${{B}} --vae \"$A b\"", ".sh", {"seed": "77", "vae": "7 b"}),
        (f"A=7\n{RUN} --seed '$A' --vae \\$A", ".sh", {"seed": "$A", "vae": "$A"}),
        (f"{RUN} --seed ${{X:-5}} --vae=$(( 2 * 3 ))", ".sh", {"seed": "5", "vae": "6"}),
        (f"export A=1 B='2 3' # note\n{RUN} --seed $A --vae \"$B\"", ".sh", {"seed": "1", "vae": "2 3"}),
        (f"e=(--flip_aug)\ne+=(\"--seed\" \"4\")\n{RUN} ${{e[@]}}", ".sh", {"flip_aug": True, "seed": "4"}),
        (f"if [[ $X == 1 ]]; then\n E=--flip_aug\nelse\n E=--random_crop\nfi\n{RUN} $E", ".sh", {"random_crop": True}),
        (f"X=1\nif [ \"$X\" -eq 1 ]; then E=--flip_aug; fi\n{RUN} $E", ".sh", {"flip_aug": True}),
        (f"{RUN} --vae=$'a\\'b\\n\\x41'", ".sh", {"vae": "a'b\nA"}),
        (f"{RUN} --seed 1; rm -rf /", ".sh", {"seed": "1"}),
        (f"cd x && {RUN} --seed 1 2>&1 | tee log.txt", ".sh", {"seed": "1"}),
        (f"$a = 2\n$b = $a * 3\n{RUN} --seed $b --vae \"$($a + 1)\"", ".ps1", {"seed": "6", "vae": "3"}),
        (f"$A = 'it''s'\n{RUN} --vae \"$a `\"q`\" `$a\"", ".ps1", {"vae": "it's \"q\" $a"}),
        (f"<# --seed=9 #>\n{RUN} `\n --seed=1`\n --flip_aug", ".ps1", {"seed": "1", "flip_aug": True}),
        (
            f"$e = [System.Collections.ArrayList]::new()\n[void]$e.Add(\"--flip_aug\")\n{RUN} $e --seed 1", ".ps1",
            {"flip_aug": True, "seed": "1"},
        ),
        (
            f"$x = 0\nif ($x -eq 1) {{\n $e = '--flip_aug'\n}} else {{\n $e = '--random_crop'\n}}\n{RUN} $e --seed 1",
            ".ps1", {"random_crop": True, "seed": "1"},
        ),
        (f"[int]$n=3\n$n += 4\n$p = \"a\" + \"b\"\n{RUN} --vae $p --seed $n", ".ps1", {"vae": "ab", "seed": "34"}),
        (f"set A=C:\\x y\n{RUN} --vae \"%A%\" ^\n --seed %b%1", ".bat", {"vae": "C:\\x y", "seed": "1"}),
    ],
)  # fmt: skip
def test_what_a_script_comes_to(text: str, suffix: str, expected: dict[str, Any]) -> None:
    assert read(text, suffix) == expected


def test_shell_in_a_script_is_text_and_is_never_run(tmp_path: Any) -> None:
    target = tmp_path / "made"
    touch = f"touch {target}"
    text = f"A=`{touch}`\nB=$({touch})\n{touch}\n{RUN} --training_comment \"$B; $({touch}) `{touch}`\" --output_name=$A"
    reading = script.read(text, ".sh")
    assert not target.exists()
    assert reading.values["training_comment"] == f"$({touch}); $({touch}) `{touch}`"
    assert reading.values["output_name"] == f"`{touch}`"
    assert sum("was not run" in text for text in reading.remarks) >= 2


def test_what_cannot_be_known_is_told() -> None:
    text = f'if some_program; then\nA=--flip_aug\nfi\n{RUN} --seed=1 --output_name "$NOWHERE"\n{RUN} --seed=2'
    reading = script.read(text, ".sh")
    assert reading.values == {"seed": "1", "output_name": ""}
    told = " ".join(reading.remarks)
    assert "NOWHERE" in told
    assert "starts 2 trainings" in told
    assert "if some_program was not read" in told


def test_another_trainer_is_told() -> None:
    reading = script.read("python flux_train_network.py --network_dim 4 --network_alpha 1 --output_dir x", ".sh")
    assert "flux_train_network.py, which is no LoRA training" in " ".join(reading.remarks)


def test_a_variable_that_doubles_itself_is_stopped() -> None:
    text = "A=xxxxxxxxxx\n" + "A=$A$A\n" * 200 + RUN
    with pytest.raises(SettingsError, match="grows past|longer than"):
        script.read(text, ".sh")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2*3", "6"), ("0.0001 * 2", "0.0002"), ("0.1+0.2", "0.3"), ("-(1 - 3)/4", "0.5"), ("1/0", None),
        ("2**9", None), ("1e400*1", None), ("a", None), ("(" * 150, None),
        ("__import__('os')", None), ("", None),
    ],
)  # fmt: skip
def test_arithmetic(text: str, result: str | None) -> None:
    assert arithmetic(text) == result


WORDS = st.sampled_from([
    "--seed", "--network_dim=", "=", "$", "${", "}", "$(", ")", "((", "'", '"', "`", "\\", "^", "%A%", "!A!", "#", ";",
    "\n", " ", "\t", "A=", "$A", "A+=(", "if", "[[", "]]", "then", "else", "fi", "{", "if (", "elseif", "[void]$a.Add(",
    "@(", "<#", "#>", "&&", "|", "set ", "rem ", RUN, "é", "\x00", "$'\\x", "[int]$b", "+=", "*", "-eq",
])  # fmt: skip
SCRIPTS = st.lists(WORDS | st.text(max_size=4), max_size=60).map("".join)


def outcome(act: Callable[[], str]) -> str:
    """What reading comes to: the line of what was not taken, or the error's."""
    try:
        return act()
    except SettingsError as error:
        return str(error)


@settings(max_examples=300)
@given(SCRIPTS, st.sampled_from([".sh", ".ps1", ".bat", ".txt"]))
@example("$(" * 9000, ".sh")
@example("((" * 9000 + RUN, ".ps1")
@example("A=$((" + "(" * 9000, ".sh")
@example("\\" * 9000, ".sh")
@example("`" * 9001, ".txt")
@example('"' * 9001, ".ps1")
@example("if [ " * 3000, ".sh")
def test_any_text_is_read_or_refused_in_one_line(text: str, suffix: str) -> None:
    told = outcome(lambda: kohya.take(script.read(f"{text}\n{RUN} --seed=1", suffix)).note)
    assert "\n" not in told


@settings(max_examples=200)
@given(SCRIPTS, st.sampled_from(list(Dialect)))
def test_every_text_ends(text: str, dialect: Dialect) -> None:
    for statement in statements(text, dialect):
        assert all(statement)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*kohya.OPTIONS, *kohya.names(), "LoRA_type", "epoch", "lr_warmup", "datasets", "lora_lab"])


@settings(max_examples=300)
@given(st.dictionaries(NAMES | st.text(max_size=8), JSON, max_size=8), st.sampled_from(["", "LoRA_type", "xformers"]))
def test_any_values_are_read_or_refused_in_one_line(values: dict[str, Any], sign: str) -> None:
    if sign:
        values.setdefault(sign, "Standard" if sign == "LoRA_type" else True)
    assert "\n" not in outcome(lambda: settings_file.from_values(values).note)


@given(st.lists(st.text(max_size=6) | st.sampled_from(["--seed", "--network_args", "--x=1", "--flip_aug", "-1"])))
def test_any_words_are_options_or_passed_over(words: list[str]) -> None:
    assert all(isinstance(name, str) for name in arguments.options(words))
