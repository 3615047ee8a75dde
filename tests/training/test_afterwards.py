"""The person's command at the end: read without a shell, run once, kept in a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from lora_lab.errors import SettingsError
from lora_lab.training.afterwards import Afterwards, AtTheEnd, parse_command, run_command


def test_words_and_no_shell(tmp_path: Path) -> None:
    mark = tmp_path / "a file; with $(words)"
    words = parse_command(f'"{sys.executable}" -c "import sys; open(sys.argv[1], \'w\')" "{mark}" && echo')
    if os.name != "nt":
        assert words[3:] == [str(mark), "&&", "echo"], "a word like any other"
    said: list[str] = []
    run_command(words, said.append)
    assert mark.is_file()
    assert said == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("", "empty"), ("   ", "empty"), ('"a', "no closing quotation: close"), ("no-such-program-here -h", "no program")],
)
def test_what_is_no_command(text: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        parse_command(text)


def test_a_command_that_fails_is_told() -> None:
    said: list[str] = []
    run_command([sys.executable, "-c", "raise SystemExit(3)"], said.append)
    run_command(["no-such-program-here"], said.append)
    assert "ended with status 3" in said[0]
    assert "did not run" in said[1]


def test_it_is_run_once_and_the_file_says_so(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = f'"{sys.executable}" -c "open(r\'{mark}\', \'a\').write(\'x\')"'
    after = Afterwards(tmp_path / "data", lambda text: None)
    assert after.read() == AtTheEnd()
    after()
    after.write(AtTheEnd(command, on=True))
    after()
    after()
    assert mark.read_text() == "x"
    assert after.read() == AtTheEnd(command, on=False)
    with pytest.raises(SettingsError):
        after.write(AtTheEnd("no-such-program-here", on=True))
    after.write(AtTheEnd("no-such-program-here"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"command": 3, "on": "yes"}'])
def test_a_damaged_file_runs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "at_the_end.json").write_text(text)
    said: list[str] = []
    Afterwards(tmp_path, said.append)()
    assert said == []


def test_a_file_of_the_persons_own_that_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "at_the_end.json").write_text(json.dumps({"command": "no-such-program-here", "on": True}))
    said: list[str] = []
    Afterwards(tmp_path, said.append)()
    assert "no program" in said[0]
