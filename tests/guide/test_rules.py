"""Each rule fires on what it is for, and stays silent on a good project; its button leads to settings that it likes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from lora_lab.families import Family
from lora_lab.guide.answers import Answers
from lora_lab.guide.facts import Concept, Course, Facts
from lora_lab.guide.rules import BY_ID, RULES, findings
from lora_lab.training.settings import TrainSettings
from tests.guide.projects import MIKA, changed, good

MANUAL: Mapping[str, Any] = {
    "optimizer_type": "AdamW", "optimizer_args": [], "unet_lr": 1e-4, "text_encoder_lr": 5e-5, "lr_scheduler": "cosine",
}  # fmt: skip
DADAPT: Mapping[str, Any] = {
    "optimizer_type": "DAdaptAdam", "optimizer_args": ["decouple=True", "weight_decay=0.01"],
    "lr_scheduler": "constant",
}  # fmt: skip


def manual(**more: Any) -> Facts:
    return changed(good(), **{**MANUAL, **more})


def tagged(**tags: int) -> Concept:
    words = {name.replace("_", " "): count for name, count in tags.items()}
    return dataclasses.replace(MIKA, tags={**MIKA.tags, **words})


def known(facts: Facts, **more: Any) -> Facts:
    return dataclasses.replace(facts, **more)


def with_concepts(*concepts: Concept, **more: Any) -> Facts:
    facts = dataclasses.replace(good(), concepts=concepts, **more)
    return changed(facts)


XL = Answers(family=Family.SDXL, pictures=40)
SPOILED: dict[str, Callable[[], Facts]] = {
    "few-steps": lambda: changed(good(), max_train_epochs=5),
    "many-steps": lambda: changed(good(), max_train_epochs=400, save_every_n_epochs=10),
    "constant-rate": lambda: manual(lr_scheduler="constant"),
    "long-warmup": lambda: changed(good(), lr_warmup_steps=2000),
    "prodigy-warmup": lambda: changed(good(), lr_warmup_steps=100, optimizer_args=["use_bias_correction=True"]),
    "prodigy-arguments": lambda: changed(good(), optimizer_args=["decouple=True"]),
    "dadapt-arguments": lambda: changed(good(), **{**DADAPT, "optimizer_args": ["weight_decay=0.05"]}),
    "dadapt-schedule": lambda: changed(good(), **{**DADAPT, "lr_scheduler": "cosine"}),
    "d-coef": lambda: changed(good(), optimizer_args=["d_coef=8", "use_bias_correction=True"]),
    "adaptive-rate": lambda: changed(good(), unet_lr=1e-4, text_encoder_lr=5e-5),
    "high-rate": lambda: manual(unet_lr=5e-3),
    "text-rate": lambda: manual(text_encoder_lr=1e-4),
    "low-alpha": lambda: manual(network_dim=16, network_alpha=1),
    "dampened": lambda: manual(network_dropout=0.5, rank_dropout=0.3, noise_offset=0.1),
    "full-half": lambda: changed(good(), full_fp16=True, mixed_precision="fp16"),
    "lion": lambda: manual(optimizer_type="Lion", unet_lr=2e-5, text_encoder_lr=1e-5),
    "slow-sgd": lambda: manual(optimizer_type="SGDNesterov"),
    "batch-rate": lambda: manual(train_batch_size=8),
    "snapshots": lambda: changed(good(), save_every_n_epochs=None),
    "repeats": lambda: changed(
        dataclasses.replace(good(), concepts=(dataclasses.replace(MIKA, repeats=10),)), max_train_epochs=3
    ),
    "bad-seed": lambda: known(good(), same_seed_bakes=3),
    "resumed-adaptive": lambda: changed(
        good(known=True, difficulty="A"), network_weights="a.safetensors", max_train_epochs=5, dim_from_weights=True,
        training_comment="built on a",
    ),
    "alpha-above-dim": lambda: changed(good(), network_alpha=64),
    "dim-for-few": lambda: changed(good(pictures=12), network_dim=128, network_alpha=64),
    "dim-for-difficulty": lambda: changed(good(), network_dim=128, network_alpha=64),
    "dim-sdxl": lambda: changed(known(good(XL), answers=None), network_dim=128, network_alpha=64),
    "dim-most": lambda: changed(good(making="style", pictures=500), network_dim=1000, network_alpha=500),
    "dim-for-many": lambda: changed(good(making="style", pictures=12_000), network_dim=16, network_alpha=8),
    "lokr-complex": lambda: changed(good(difficulty="E"), algo="lokr", max_train_epochs=100),
    "loha-rank": lambda: changed(good(), algo="loha", network_dim=64, network_alpha=32, max_train_epochs=60),
    "loha-memory": lambda: known(changed(good(), algo="loha", max_train_epochs=60), vram=6.9),
    "tied-kind": lambda: changed(good(), algo="lokr", max_train_epochs=60, training_comment="works best with x"),
    "works-best-with": lambda: changed(good(), algo="lokr", max_train_epochs=60),
    "slow-kind": lambda: changed(good(), algo="loha"),
    "ia3-rate": lambda: changed(good(), algo="ia3", max_train_epochs=60, network_dim=32, network_alpha=16),
    "locon-character": lambda: changed(good(), algo="locon", conv_dim=8, conv_alpha=4),
    "style-kind": lambda: changed(good(making="style", pictures=300), algo="lora", conv_dim=None, conv_alpha=None),
    "skin-only": lambda: changed(good(look="skin"), train_blocks=[]),
    "resume-rank": lambda: changed(good(), network_weights="a.safetensors", training_comment="built on a"),
    "credit": lambda: changed(good(), network_weights="some/old.safetensors", dim_from_weights=True),
    "noise-offset-high": lambda: changed(good(), noise_offset=0.3),
    "min-snr-range": lambda: changed(good(), min_snr_gamma=0.5),
    "min-snr-kind": lambda: changed(good(), min_snr_gamma=12),
    "weight-norms": lambda: changed(good(), scale_weight_norms=0.1),
    "sdxl-half": lambda: changed(good(XL), mixed_precision="fp16"),
    "memory-adaptive": lambda: known(changed(good(), gradient_checkpointing=False), vram=6.0),
    "memory-sdxl": lambda: known(changed(good(XL), gradient_checkpointing=False), vram=10.0),
    "sdxl-text": lambda: changed(good(XL), network_train_unet_only=False, text_encoder_lr=1),
    "few-pictures": lambda: good(pictures=4),
    "flip-sided": lambda: with_concepts(tagged(eyepatch=38)),
    "flip-unused": lambda: changed(good(pictures=15), flip_aug=False),
    "enlarged": lambda: known(good(), sizes=((256, 300),) * 40),
    "off-the-family": lambda: changed(good(), resolution=1024, max_bucket_reso=1536),
    "more-detail": lambda: changed(good(difficulty="F"), resolution=512),
    "scattered": lambda: known(good(), buckets={(320 + 64 * i, 512): 4 for i in range(10)}),
    "short-batches": lambda: known(
        changed(good(), train_batch_size=4),
        length=dataclasses.replace(changed(good(), train_batch_size=4).length, batches=22),
    ),
    "reg-for-style": lambda: changed(dataclasses.replace(good(making="style", pictures=200), reg_pictures=200)),
    "reg-for-bad": lambda: changed(known(good(good=False), reg_pictures=0), max_train_epochs=90),
    "few-reg": lambda: known(good(good=False), reg_pictures=5),
    "bent-style": lambda: with_concepts(tagged(chibi=36)),
    "more-backgrounds": lambda: with_concepts(
        MIKA, Concept("park", 60, 1, 60, "park", 1.0, 1, {"no humans": 60}), answers=Answers(making="several")
    ),
    "drowned": lambda: with_concepts(
        MIKA, Concept("rin", 10, 1, 10, "rin", 1.0, 1, {}), answers=Answers(making="several")
    ),
    "trigger-first": lambda: with_concepts(dataclasses.replace(MIKA, trigger_share=0.8)),
    "no-trigger": lambda: with_concepts(dataclasses.replace(MIKA, trigger_share=0.2)),
    "keep-tokens": lambda: changed(good(), keep_tokens=0),
    "unshuffled": lambda: changed(good(), shuffle_caption=False),
    "common-trigger": lambda: with_concepts(dataclasses.replace(MIKA, trigger="girl")),
    "long-trigger": lambda: with_concepts(dataclasses.replace(MIKA, trigger="xyzzyplughquux", trigger_tokens=7)),
    "captions-cut": lambda: known(changed(good(), max_token_length=75), over_limit=7, longest=120),
    "keyword-several": lambda: with_concepts(
        MIKA, Concept("rin", 40, 1, 0), answers=Answers(making="several")
    ),
    "keyword-hard": lambda: good(captions=False, difficulty="C"),
    "plain-background": lambda: with_concepts(tagged(simple_background=38)),
    "dialect": lambda: with_concepts(
        dataclasses.replace(MIKA, tags={"mika": 40, "anthro": 38, "canine": 30, "fur": 40, "smile": 5, "sky": 3})
    ),
    "unet-only": lambda: changed(good(), network_train_unet_only=True, text_encoder_lr=None),
    "clip-skip": lambda: changed(good(), clip_skip=1),
    "mix": lambda: known(good(), checkpoint="AbyssOrangeMix3.safetensors"),
    "anylora": lambda: known(good(), checkpoint="anyloraCheckpoint_bakedvae.safetensors"),
    "drawn-on-photo": lambda: known(changed(good(), clip_skip=1), checkpoint="v1-5-pruned.ckpt", knows="realistic",
                                    concepts=(dataclasses.replace(MIKA, tags={"mika": 40, "hat": 3}),)),
    "furry-base": lambda: known(
        good(knows="furry", difficulty="D"), checkpoint="fluffyrock.safetensors", knows="furry",
        concepts=(dataclasses.replace(MIKA, tags={"mika": 40, "anthro": 40, "fur": 9}),),
    ),
    "known-plain": lambda: good(difficulty="A", known=True),
    "by-heart": lambda: known(good(), course=Course(
        held_out=((0, 0.10), (100, 0.08), (200, 0.075), (300, 0.08), (400, 0.085), (500, 0.09))
    )),
    "copied": lambda: known(good(), course=Course(averages=tuple((i, 0.01) for i in range(30)))),
}  # fmt: skip


def fired(facts: Facts) -> set[str]:
    return {finding.rule.id for finding in findings(facts)}


@pytest.mark.parametrize(
    "answers",
    [
        Answers(),
        Answers(vram=12.0, bf16=True),
        Answers(vram=6.0),
        Answers(adaptive=False, vram=16.0),
        Answers(difficulty="E"),
        Answers(male=True, difficulty="C", pictures=80),
        Answers(making="style", pictures=400),
        Answers(making="concept", pictures=60),
        Answers(making="outfit", pictures=30, flexible=True),
        Answers(good=False, pictures=24),
        Answers(look="free"),
        Answers(family=Family.SDXL),
        Answers(family=Family.SDXL, vram=8.0),
        Answers(look="skin"),
        Answers(asymmetric=True),
        Answers(dull=True),
        Answers(knows="other"),
    ],
    ids=str,
)
def test_no_rule_fires_on_recommended_settings(answers: Answers) -> None:
    assert fired(good(answers)) == set()


def test_every_rule_is_in_the_list() -> None:
    assert set(SPOILED) == set(BY_ID)
    assert len(RULES) == len(BY_ID), "two rules have one id"


@pytest.mark.parametrize("rule", SPOILED)
def test_a_rule_fires_on_what_it_is_for_and_its_button_mends_it(rule: str) -> None:
    facts = SPOILED[rule]()
    said = {finding.rule.id: finding for finding in findings(facts)}
    assert rule in said, f"instead: {sorted(said)}"
    finding = said[rule]
    assert finding.fired.text
    assert not finding.fired.text.endswith(".")
    assert rule not in {f.rule.id for f in findings(facts, silenced={rule})}, "it can be silenced"
    if finding.fired.changes:
        mended = changed(facts, **finding.fired.changes)
        if rule not in NOT_BY_SETTINGS:
            assert rule not in fired(mended), finding.button
    names = {spec.name for spec in TrainSettings.specs()}
    assert set(finding.fired.changes) <= names
    assert set(BY_ID[rule].settings) <= names


NOT_BY_SETTINGS = {"captions-cut", "bad-seed", "short-batches", "scattered", "reg-for-style", "enlarged"}
"""Their facts come from the pictures, or from earlier bakes, which are not looked at again here."""


@pytest.mark.parametrize("rule", SPOILED)
def test_a_rule_is_not_alone_with_everything(rule: str) -> None:
    """Spoiling one thing makes few others speak: rules do not echo each other."""
    assert len(fired(SPOILED[rule]())) <= 4
