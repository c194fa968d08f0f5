# SPDX-License-Identifier: Apache-2.0
"""A small report for tests of states, logs and case folders: one liver, one nodule, a field to be filled."""

from __future__ import annotations

from FoundationReportLib.model import (
    Code,
    Fact,
    Facts,
    Judgement,
    Kind,
    ModelInfo,
    Origin,
    Report,
    Section,
    Side,
    Source,
    Statement,
    Subject,
    Verdict,
)


def small_facts() -> Facts:
    """Chest CT: an 8 mm nodule on the right, a liver of 1500 mL; the spleen was not looked at."""
    return Facts(
        subjects=(
            Subject("image", "CT", Kind.IMAGE),
            Subject("liver", "Liver", Kind.ORGAN, "liver", code=Code("10200004", "SCT", "Liver")),
            Subject("spleen", "Spleen", Kind.ORGAN, "spleen"),
            Subject("lesion-1", "Nodule", Kind.LESION, "lung", Side.RIGHT, "nodule", segment="Segment_2"),
        ),
        facts=(
            Fact("f1", "image", "modality", "CT"),
            Fact("f2", "liver", "coverage", "assessed"),
            Fact("f3", "liver", "volume", 1500.0, "mL", source=Source("voxels", volume="abc")),
            Fact("f4", "spleen", "coverage", "in_view_not_assessed"),
            Fact("f5", "lesion-1", "presence", "present"),
            Fact(
                "f6",
                "lesion-1",
                "long_axis",
                8.0,
                "mm",
                source=Source("half-voxel contour in the axial plane", slice_k=12, points=((1, 2, 3), (9.0, 2.0, 3.0))),
            ),
        ),
        modality="CT",
        study={"fingerprint": "abc"},
    )


def small_report() -> Report:
    """A draft of it: a supported sentence, an unverifiable one of a model, and a field to be filled."""
    return Report(
        id="r-test",
        template="generic",
        template_version="1",
        language="en",
        facts=small_facts(),
        sections=(Section("findings", "Findings"), Section("impression", "Impression")),
        statements=(
            Statement(
                "s1",
                "findings",
                "The liver has a volume of 1500 mL.",
                Origin.TEMPLATE,
                ("f3",),
                Judgement(Verdict.SUPPORTED, "The volume agrees.", ("f3",)),
            ),
            Statement(
                "s2",
                "findings",
                "The gallbladder contains stones.",
                Origin.VLM,
                judgement=Judgement(Verdict.UNVERIFIABLE, "No fact is about the gallbladder."),
                model="m1",
                slices=(3, 12),
                agreement=(3, 4),
            ),
            Statement("s3", "findings", "Spleen: [not assessed]", Origin.TEMPLATE, ("f4",), placeholder=True),
        ),
        models=(ModelInfo("m1", "hf-chat", "tiny", "0" * 40, prompt_sha256="1" * 64, slices=(3, 12), seed=0),),
        next_statement=4,
    )
