"""How hard a character is: the guide's categories A to I, found by questions, with the ranks that hold them."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.guide.source import Source, guide

SOURCE: Source = guide("Character difficulty")


@dataclass(frozen=True)
class Difficulty:
    """One category."""

    letter: str
    text: str
    """What belongs to it."""
    ranks: tuple[int, int]
    """Lowest and highest rank (SD1) that the guide gives."""
    kinds: tuple[str, ...]
    """algo values that can hold it."""

    @property
    def rank_words(self) -> str:
        """``4 to 8``, or the one rank."""
        return " to ".join(map(str, sorted(set(self.ranks))))


TABLE = (
    Difficulty("A", "a plain woman or girl with usual clothes and hair", (4, 8), ("lora", "lokr")),
    Difficulty(
        "B", "a woman or girl with an unusual face, hair, colours or clothes", (4, 16), ("lora", "lokr", "loha")
    ),
    Difficulty("C", "very elaborate details, or wings, armour, a tail", (8, 32), ("lora", "lokr", "loha")),
    Difficulty("D", "a humanoid with animal features, or a real human", (32, 64), ("lora", "loha")),
    Difficulty("E", "other proportions, but still two arms and two legs", (64, 64), ("lora",)),
    Difficulty("F", "an animal, a dragon, a humanoid robot, or a human in extreme costume", (64, 128), ("lora",)),
    Difficulty("G", "a humanoid mech, an alien, a humanoid with more limbs", (128, 128), ("lora",)),
    Difficulty("H", "a robot or monster of no human shape, an insect, a realistic animal", (128, 192), ("lora",)),
    Difficulty("I", "nothing that has a usual shape at all", (192, 256), ("lora",)),
)
BY_LETTER = {row.letter: row for row in TABLE}
LETTERS = "".join(BY_LETTER)

QUESTIONS = (
    ("human", "Is it a human, drawn in the usual proportions?"),
    ("unusual", "Does it have an unusual face, hair, colours or clothes?"),
    ("elaborate", "Does it have very elaborate details, or wings, armour, a tail?"),
    ("real", "Is it a real human?"),
    ("two_and_two", "Does it stand on two legs and have two arms?"),
    ("humanlike", "Does its body have a human's build (a humanoid with animal features)?"),
    ("machine", "Is it a machine or an alien, or has it more limbs?"),
    ("shape", "Does it have a body that one could name (animal, insect, robot, monster)?"),
    ("realistic", "Is it to look realistic, like a real animal?"),
)
"""Name -> question with yes or no, in the order in which they are asked."""


def by_answers(**yes: bool) -> Difficulty:
    """The category of these answers; what is not answered is no (`human` and `shape` are yes)."""
    if yes.get("human", True):
        if yes.get("real", False):
            return BY_LETTER["D"]
        return BY_LETTER["C" if yes.get("elaborate") else "B" if yes.get("unusual") else "A"]
    if yes.get("two_and_two", False):
        if yes.get("machine", False):
            return BY_LETTER["F" if yes.get("humanlike") else "G"]
        return BY_LETTER["D" if yes.get("humanlike") else "E"]
    if not yes.get("shape", True):
        return BY_LETTER["I"]
    return BY_LETTER["H" if yes.get("machine") or yes.get("realistic") else "F"]


def vehicle(*, realistic: bool, detailed: bool) -> Difficulty:
    """The guide sees vehicles between C and G: up for true-to-life detail, down for a drawn one."""
    return BY_LETTER["G" if realistic and detailed else "F" if realistic else "D" if detailed else "C"]


def rank_for(letter: str, *, male: bool, few: bool, family_factor: float) -> int:
    """A rank for a category.

    Args:
        letter: A to I.
        male: half a category harder, up to D: checkpoints know more women.
        few: few pictures cannot fill a high rank: the low end of the range.
        family_factor: 1 for SD1 and SD2; SDXL's ranks hold three to four times as much.
    """
    low, high = BY_LETTER[letter].ranks
    rank = low if few else high
    if male and letter in "ABCD":
        following = BY_LETTER[LETTERS[LETTERS.index(letter) + 1]].ranks
        rank = (rank + (following[0] if few else following[1])) // 2
    return max(4, round(rank * family_factor / 4) * 4)
