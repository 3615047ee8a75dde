"""Words of booru tags that rules look for: colours, counts of people, things worn, what excludes each other."""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    """Words parted by blanks."""
    return frozenset(text.split())


COLOURS = _set(
    "aqua beige black blonde blue brown gold golden green grey gray lavender light-blue maroon multicolored navy "
    "orange pink purple red silver tan teal turquoise violet white yellow"
)
COUNTS = re.compile(r"\d\+?(girl|boy|other)s?|solo|multiple (girls|boys|others)|no humans")
"""How many people there are: structure that is never pruned or doubted."""
FAMILIES: dict[str, frozenset[str]] = {
    "footwear": _set("footwear boots shoes sneakers sandals slippers heels loafers pumps geta mary-janes"),
    "legwear": _set("legwear thighhighs pantyhose socks kneehighs stockings leggings"),
    "headwear": _set("headwear hat cap beret beanie helmet bonnet headdress"),
    "eyewear": _set("eyewear glasses sunglasses goggles"),
    "handwear": _set("handwear gloves mittens gauntlets"),
    "neckwear": _set("neckwear tie necktie scarf bowtie choker ascot cravat"),
    "outerwear": _set("outerwear jacket coat hoodie cardigan blazer cape cloak"),
    "swimwear": _set("swimwear swimsuit bikini"),
}
"""A general word, and the exact ones that taggers give beside it."""
WORN = _set(
    "hat cap scarf glasses sunglasses eyepatch gloves jacket coat cape cloak hood hoodie boots shoes thighhighs socks "
    "ribbon bow crown tiara halo horns wings tail earrings necklace choker mask helmet armor apron headphones"
)
"""What can be put on and taken off: tags that toggle."""
EXCLUSIVE: tuple[tuple[str, frozenset[str]], ...] = (
    ("length of hair", frozenset({"short hair", "medium hair", "long hair"})),
    ("mouth", frozenset({"open mouth", "closed mouth"})),
    ("number of girls", frozenset({"1girl", "2girls", "3girls", "4girls", "5girls", "6+girls"})),
    ("number of boys", frozenset({"1boy", "2boys", "3boys", "4boys", "5boys", "6+boys"})),
    ("alone or not", frozenset({"solo", "2girls", "3girls", "4girls", "multiple girls", "multiple boys", "2boys"})),
    ("framing", frozenset({"portrait", "upper body", "cowboy shot", "full body"})),
    ("time of day", frozenset({"day", "night"})),
    ("place", frozenset({"indoors", "outdoors"})),
)
"""At most one of each is true of one person in one picture."""
ONE_COLOUR = ("hair", "eyes", "skin")
"""Things of one colour, unless a tag says that there are several."""
SEVERAL_COLOURS = frozenset({"multicolored hair", "two-tone hair", "streaked hair", "gradient hair", "heterochromia"})
UNWANTED: dict[str, frozenset[str]] = {
    "text and marks": frozenset(
        {
            "watermark", "web address", "signature", "artist name", "twitter username", "patreon username", "logo",
            "patreon logo", "text focus", "english text", "japanese text", "speech bubble", "dated", "sample watermark",
            "copyright name", "character name", "artist logo", "username",
        }
    ),
    "more than one person": frozenset(
        {"2girls", "3girls", "4girls", "5girls", "6+girls", "multiple girls", "2boys", "multiple boys", "crowd"}
    ),
    "damage of the picture": frozenset({"jpeg artifacts", "blurry", "lowres", "scan artifacts", "border", "cropped"}),
}  # fmt: skip
POSES = _set(
    "standing sitting lying kneeling squatting walking running jumping leaning crouching waving portrait profile "
    "upper-body full-body cowboy-shot from-behind from-side from-above from-below looking-at-viewer looking-back "
    "looking-to-the-side arms-up arms-behind-back hand-on-hip hands-on-hips crossed-arms holding close-up"
)
"""With hyphens for blanks."""
FURRY = _set(
    "anthro feral mammal canid canine felid feline equid equine humanoid-hands fur scalie avian bodily-fluids "
    "hi-res digital-media-(artwork) duo male female canis lagomorph"
)
"""Tags of e621 that no booru of anime pictures uses in this sense."""
