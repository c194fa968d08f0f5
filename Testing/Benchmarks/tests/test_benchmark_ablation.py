# SPDX-License-Identifier: Apache-2.0
"""The ablation harness: how variants are named, that their policy takes effect, and the table."""

from __future__ import annotations

import json

import ablation
import pytest
from FoundationSegLib.resources import resource_folder


class TestVariant:
    def test_name_alone_is_the_shipped_model_as_it_is(self):
        variant = ablation.Variant.parse("base")
        assert variant == ablation.Variant("base", resource_folder("Weights"), {})

    def test_weights_and_policy(self, tmp_path):
        variant = ablation.Variant.parse(f"new:weights={tmp_path},size_prior=0.2,most_passes=1,search_size=None")
        assert variant.weights == tmp_path
        assert variant.policy == {"size_prior": 0.2, "most_passes": 1, "search_size": None}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a:nothing=1", "nothing=1"),
            ("a:touch", "touch"),
            ("a:touch=much", "must be a number"),
            (":touch=1", "no name"),
        ],
    )
    def test_wrong_words(self, text, message):
        with pytest.raises(ValueError, match=message):
            ablation.Variant.parse(text)

    def test_policy_takes_effect_on_top_of_the_models_own(self):
        own = ablation.Variant.parse("base").model().policy
        changed = ablation.Variant.parse("other:touch=0.5").model().policy
        assert changed.touch == 0.5 and changed.size_prior == own.size_prior and changed.search_size == own.search_size


def row(variant, structure, dice, **more):
    count = len(dice)
    return {
        "variant": variant, "group": "synthetic", "case": "c", "structure": structure, "series": "clicks",
        "at": list(range(1, count + 1)), "dice": dice, "iou": dice, "predicted": [0.5] * count, "prompts": [{}] * count,
        "seconds": [2.0] + [0.5] * (count - 1), "failures": 0, **more,
    }  # fmt: skip


def test_table_compares_with_the_first_variant():
    rows = [
        row("a", "s", [0.2, 0.6, 0.5]),
        row("a", "t", [0.4, 0.8, 0.9]),
        row("b", "s", [0.4, 0.5, 0.6]),
        row("b", "t", [0.6, 0.7, 0.8]),
        row("b", "t", [0.0], group="real organs"),
    ]
    header, cells = ablation.table(rows, "synthetic", ["a", "b"])
    lines = [dict(zip(header, line, strict=True)) for line in cells]
    assert [(line["variant"], line["n"], line["click 1"], line["click 3"]) for line in lines] == [
        ("a", "2", "0.300", "0.700"),
        ("b", "2", "0.500", "0.700"),
    ]
    assert lines[0]["mean"] == "0.500" and lines[1]["to first"] == "+0.100"
    assert lines[0]["falls"] == "0.000" and lines[1][">=.80"] == "0.50"
    assert (lines[0]["s first"], lines[0]["s next"]) == ("2.00", "0.50")
    # Predicted .5 throughout: the error is the difference of the means.
    assert lines[0]["ECE"] == "0.067"


class TestCommand:
    def test_from_variants_to_a_table(self, tmp_path, capsys):
        out = tmp_path / "new" / "result"
        small = ["--volumes", "1", "--size", "32", "--clicks", "1", "--series", "clicks", "--out", str(out)]
        status = ablation.main(["base", "once:most_passes=0", *small])
        assert status == 0
        document = json.loads(out.with_name("result.json").read_text())
        found = {(row["variant"], row["structure"]) for row in document["rows"]}
        assert found == {(name, f"target {number}") for name in ("base", "once") for number in (0, 1)}
        assert "most_passes" in document["variants"][1]
        for text in (capsys.readouterr().out, out.with_name("result.md").read_text()):
            assert "Synthetic" in text and "once" in text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["a", "a"], "one name"),
            (["a:nothing=1"], "nothing=1"),
            (["a:weights=no-such-folder"], "lacks"),
            (["a", "--volumes", "0", "--cases", "nobody"], "nobody"),
        ],
    )
    def test_wrong_use_is_one_sentence(self, tmp_path, capsys, arguments, message):
        (tmp_path / "index.json").write_text('{"cases": []}')
        assert ablation.main([*arguments, "--data", str(tmp_path), "--out", str(tmp_path / "r")]) == 2
        assert message in capsys.readouterr().err
