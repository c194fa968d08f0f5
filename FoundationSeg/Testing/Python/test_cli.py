# SPDX-License-Identifier: Apache-2.0
"""The command `foundation-seg`: results, replay, and that every failure is one sentence with the right exit status."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk
from bright_predictor import bright_model
from FoundationSegLib import SegmentationFileError, Volume, commands_models
from FoundationSegLib.cli import _joined, main
from FoundationSegLib.errors import DicomSeriesError
from FoundationSegLib.replay import onto_grid
from FoundationSegLib.segmentation_io import SegmentRecord, read_segmentation, write_segmentation
from FoundationSegLib.session import PROMPTS_TAG, PROVENANCE_TAG
from image_files import NO_REAL_DATA, OBLIQUE, REAL_DATA

MODULE = Path(__file__).resolve().parents[2]
SHAPE = (20, 26, 30)
real_data = pytest.mark.skipif(REAL_DATA is None, reason=NO_REAL_DATA)


class Run(NamedTuple):
    """What a run of the command left."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])  # type: ignore[no-any-return]


Command = Callable[..., Run]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process."""

    def call(*arguments: object) -> Run:
        status = main([str(argument) for argument in arguments])
        return Run(status, *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels, since here only their existence matters."""
    monkeypatch.setattr("FoundationSegLib.picture._PIXELS", 100)
    monkeypatch.setattr("FoundationSegLib.picture._SOLID_PIXELS", 100)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose masks are known: what is bright."""
    for module in ("session", "commands"):
        monkeypatch.setattr(f"FoundationSegLib.{module}.load_model", bright_model)


def volume_of_two_balls() -> tuple[Volume, list[tuple[float, float, float]]]:
    """An oblique anisotropic volume with two bright balls, and their centres in RAS mm."""
    centres_kji = [(10, 9, 8), (9, 17, 22)]
    kji = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    inside = np.zeros(SHAPE, bool)
    for centre in centres_kji:
        # 5 voxels in plane and 2 across slices are a ball of about 4 mm, given the spacing of 0.7, 0.8 and 3.1 mm.
        inside |= (((kji - centre) / (2, 5, 5)) ** 2).sum(axis=-1) <= 1
    noise = np.random.default_rng(5).integers(-20, 20, SHAPE)
    volume = Volume((np.where(inside, 400, 0) + noise).astype(np.int16), OBLIQUE)
    return volume, [tuple(volume.kji_to_ras(c).tolist()) for c in centres_kji]


VOLUME, CENTRES = volume_of_two_balls()
POINTS = [",".join(f"{x:.3f}" for x in centre) for centre in CENTRES]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(VOLUME.to_sitk(), str(path))
    return path


def write_json(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


TWO_SEGMENTS = {
    "segments": [
        {
            "name": "Left kidney",
            "prompts": [
                {"type": "point", "ras": CENTRES[0]},
                {"type": "point", "ras": CENTRES[1], "positive": False, "round": 1},
            ],
        },
        {"name": "Tumour ä", "prompts": [{"type": "point", "ras": CENTRES[1]}]},
    ]
}


# --- segment ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz", ".nhdr"])
def test_segment_writes_mask_table_and_picture(tmp_path: Path, run: Command, suffix: str) -> None:
    source = tmp_path / f"image{suffix}"
    sitk.WriteImage(VOLUME.to_sitk(), str(source))
    out, picture, table = (tmp_path / name for name in ("o.seg.nrrd", "o.png", "o.csv"))
    outputs = ("--out", out, "--picture", picture, "--table", table)
    result = run("segment", source, f"--point={POINTS[0]}", "--segment", "Left kidney", *outputs, "--json")
    assert result.status == 0, result.err
    (record,) = read_segmentation(out).records
    (segment,) = result.data["segments"]
    assert record.name == segment["name"] == "Left kidney" and "64033007" in (record.terminology or "")
    assert record.mask.shape == SHAPE and record.mask[10, 9, 8] and not record.mask[9, 17, 22]
    assert segment["voxels"] == record.mask.sum() > 100
    assert segment["volume_ml"] == pytest.approx(record.mask.sum() * VOLUME.voxel_volume_ml)
    assert segment["mean"] == pytest.approx(VOLUME.array[record.mask].mean(), rel=1e-5)
    np.testing.assert_allclose(read_segmentation(out).ijk_to_ras, OBLIQUE, atol=2e-4 if "nii" in suffix else 1e-9)
    with table.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert int(row["voxels"]) == segment["voxels"] and row["unit"] == ""
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert result.data["outputs"] == {"segmentation": str(out), "picture": str(picture), "table": str(table)}
    assert set(result.data["seconds"]) == {"read", "model", "segment", "write"}


def test_segment_with_the_embedded_model(tmp_path: Path, image: Path, run: Command) -> None:
    """Wiring only: what the model makes of it is the benchmark's matter."""
    out = tmp_path / "o.seg.nrrd"
    result = run("segment", image, "--point", POINTS[0], "--out", out, "--modality", "CT", "--json")
    assert result.status == 0, result.err
    (record,) = read_segmentation(out).records
    provenance = json.loads(record.tags[PROVENANCE_TAG])
    assert provenance["sha256"] == result.data["model"]["sha256"] and provenance["volume"] == VOLUME.fingerprint
    assert record.tags["DICOM.SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    assert result.data["segments"][0]["unit"] == "HU"
    again = run("replay", out)
    assert again.status == 0 and again.out.startswith("identical  Segment:"), again


@pytest.mark.usefixtures("bright")
def test_text_names_every_segment_and_is_all_there_is_on_standard_output(
    image: Path, tmp_path: Path, run: Command
) -> None:
    prompts = write_json(tmp_path / "p.json", TWO_SEGMENTS)
    result = run("segment", image, "--prompts", prompts, "--out", tmp_path / "o.seg.nrrd")
    assert result.status == 0
    head, rule, *rows = result.out.splitlines()
    assert head.startswith("segment") and set(rule) == {"-"} and len(rows) == 2
    assert rows[0].startswith("Left kidney") and rows[1].startswith("Tumour ä")
    assert "Reading" in result.err and "Segmenting Left kidney" in result.err


@pytest.mark.usefixtures("bright")
def test_prompts_are_stored_round_by_round(image: Path, tmp_path: Path, run: Command) -> None:
    prompts = write_json(tmp_path / "p.json", TWO_SEGMENTS)
    assert run("segment", image, "--prompts", prompts, "--out", tmp_path / "o.seg.nrrd").status == 0
    kidney, tumour = read_segmentation(tmp_path / "o.seg.nrrd").records
    stored = json.loads(kidney.tags[PROMPTS_TAG])
    assert [(item["round"], item["positive"]) for item in stored] == [(0, True), (1, False)]
    assert kidney.mask[10, 9, 8] and tumour.mask[9, 17, 22] and not (kidney.mask & tumour.mask).any()


@pytest.mark.usefixtures("bright")
def test_one_segment_of_a_prompt_file(image: Path, tmp_path: Path, run: Command) -> None:
    prompts = write_json(tmp_path / "p.json", TWO_SEGMENTS)
    arguments = ("segment", image, "--prompts", prompts, "--out", tmp_path / "o.seg.nrrd", "--segment")
    assert run(*arguments, "Tumour ä").status == 0
    assert [record.name for record in read_segmentation(tmp_path / "o.seg.nrrd").records] == ["Tumour ä"]
    result = run(*arguments, "Spleen")
    assert result.status == 1 and 'it has "Left kidney", "Tumour ä"' in result.err


@pytest.mark.usefixtures("bright")
def test_negative_coordinates_and_the_order_of_options(image: Path, tmp_path: Path, run: Command) -> None:
    """`--point -1,2,3` and `--point=-1,2,3` are one, and options keep their order."""
    low, high = VOLUME.bounds_ras + np.array([[1], [-1]])
    box = ",".join(map(str, [high[0], low[1], low[2], low[0], high[1], high[2]]))  # any two opposite corners
    stored = []
    for equals in (False, True):
        options: list[str] = []
        for name, value in (("--negative", POINTS[1]), ("--box", box), ("--point", POINTS[0])):
            options += [f"{name}={value}"] if equals else [name, value]
        result = run("segment", image, *options, "--out", tmp_path / "o.seg.nrrd")
        assert result.status == 0, result.err
        (record,) = read_segmentation(tmp_path / "o.seg.nrrd").records
        stored.append(json.loads(record.tags[PROMPTS_TAG]))
    assert stored[0] == stored[1]
    assert [item["type"] for item in stored[0]] == ["point", "box", "point"]
    np.testing.assert_allclose(stored[0][1]["ras_min"], low)
    np.testing.assert_allclose(stored[0][1]["ras_max"], high)
    assert any(value.startswith("-") for value in (*POINTS, box)), "nothing negative was tried"


def test_only_numbers_after_an_option_that_takes_them_are_joined() -> None:
    assert _joined(["--point", "-1,2,3", "--box", "-.5,1", "x"]) == ["--point=-1,2,3", "--box=-.5,1", "x"]
    assert _joined(["--point", "--json", "--out", "-1"]) == ["--point", "--json", "--out", "-1"]


@pytest.mark.usefixtures("bright")
def test_values_that_are_not_finite_are_refused_or_filled(tmp_path: Path, run: Command) -> None:
    voxels = VOLUME.array.astype(np.float32)
    voxels[0, 0, 0] = np.nan
    holed = sitk.GetImageFromArray(voxels)
    holed.CopyInformation(VOLUME.to_sitk())
    sitk.WriteImage(holed, str(tmp_path / "image.nrrd"))
    arguments = ("segment", tmp_path / "image.nrrd", "--point", POINTS[0], "--out", tmp_path / "o.seg.nrrd")
    refused = run(*arguments)
    assert refused.status == 1 and "not finite" in refused.err
    assert run(*arguments, "--nonfinite", "minimum").status == 0
    assert run("replay", tmp_path / "o.seg.nrrd").status == 0


# --- Wrong use and failures ------------------------------------------------------------------------------------------

OUT = ("--out", "o.seg.nrrd")
POINT = ("--point", POINTS[0])


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ((), 2, "required: COMMAND"),
        (("paint",), 2, "invalid choice: 'paint'"),
        (("segment",), 2, "required: volume, --out"),
        (("segment", "image.nrrd", *POINT), 2, "required: --out"),
        (("segment", "image.nrrd", *OUT), 2, "no prompt is given"),
        (("segment", "image.nrrd", "--point", "1,2", *OUT), 2, "'1,2' is not 3 numbers"),
        (("segment", "image.nrrd", "--point", "-1;2;3", *OUT), 2, "'-1;2;3' is not 3 numbers"),
        (("segment", "image.nrrd", "--point", "1,2,nan", *OUT), 2, "must be finite"),
        (("segment", "image.nrrd", "--box", "1,2,3,4,5", *OUT), 2, "is not 6 numbers"),
        (("segment", "image.nrrd", "--box", "1,2,3,1,5,6", *OUT), 2, "has no volume"),
        (("segment", "image.nrrd", *POINT, "--prompts", "p.json", *OUT), 2, "prompts are given twice"),
        (("segment", "image.nrrd", *POINT, "--out", "o.nrrd"), 2, "let --out end in .seg.nrrd"),
        (("segment", "image.nrrd", *POINT, *OUT, "--picture", "o.jpg"), 2, "let --picture end in .png"),
        (("segment", "image.nrrd", *POINT, *OUT, "--table", "o.xls"), 2, "let --table end in .csv"),
        (("segment", "image.nrrd", *POINT, *OUT, "--device", "abacus"), 2, "invalid choice: 'abacus'"),
        (("replay", "o.seg.nrrd", "--series", "2"), 2, "--series chooses a series of --volume"),
        (("models",), 2, "required: COMMAND"),
        (("models", "show"), 2, "required: name"),
        (("segment", "gone.nrrd", *POINT, *OUT), 1, "gone.nrrd: There is no such file"),
        (("segment", "text.nrrd", *POINT, *OUT), 1, "text.nrrd: The file is damaged or of an unknown kind"),
        (("segment", "empty.nrrd", *POINT, *OUT), 1, "empty.nrrd: The file is empty"),
        (("segment", "cut.nrrd", *POINT, *OUT), 1, "cut.nrrd: "),
        (("segment", "flat.nrrd", *POINT, *OUT), 1, "flat.nrrd: Every voxel"),
        (("segment", "plane.nrrd", *POINT, *OUT), 1, "plane.nrrd: The image has 2 dimensions"),
        (("segment", "folder", *POINT, *OUT), 1, "folder: There is no DICOM image"),
        (("segment", "text.zip", *POINT, *OUT), 1, "text.zip: There is no DICOM image"),
        (("segment", "image.nrrd", "--point", "9999,0,0", *OUT), 1, "lies outside of the volume"),
        (("segment", "image.nrrd", "--box", "900,900,900,901,901,901", *OUT), 1, "lies outside of the volume"),
        (("segment", "image.nrrd", "--negative", POINTS[0], *OUT), 1, "All prompts are negative"),
        (("segment", "image.nrrd", *POINT, "--negative", POINTS[0], *OUT), 1, "positive and negative"),
        (("segment", "image.nrrd", "--prompts", "gone.json", *OUT), 1, "gone.json cannot be read"),
        (("segment", "image.nrrd", "--prompts", "text.nrrd", *OUT), 1, "is not JSON"),
        (("segment", "image.nrrd", "--prompts", "twice.json", *OUT), 1, '"a" more than once'),
        (("segment", "image.nrrd", "--prompts", "text.json", *OUT), 1, "does not know names"),
        (("segment", "image.nrrd", "--prompts", "mask.json", *OUT), 1, "mask prompt has (2, 2, 2) voxels"),
        (("segment", "image.nrrd", *POINT, "--out", "no/o.seg.nrrd"), 1, "its folder does not exist"),
        (("segment", "image.nrrd", *POINT, *OUT, "--picture", "no/o.png"), 1, "its folder does not exist"),
        (("replay", "gone.seg.nrrd"), 1, "gone.seg.nrrd: There is no such file"),
        (("replay", "text.nrrd"), 1, "text.nrrd: "),
        (("replay", "gone.seg.nrrd", "--out", "no/new.seg.nrrd"), 1, "its folder does not exist"),
        (("replay", "image.nrrd"), 1, "No segment says which volume"),
        (("replay", "image.nrrd", "--volume", "image.nrrd"), 1, "No segment of the file carries prompts"),
        (("models", "show", "huge"), 1, "There is no model 'huge'; there are: compact"),
        (("demo", "gone.nrrd", *POINT), 1, "gone.nrrd: There is no such file"),
        (("demo", "image.nrrd"), 2, "no prompt is given"),
        (("demo", "--out", "text.nrrd"), 1, "text.nrrd cannot be made"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_failure_is_one_sentence(
    tmp_path: Path,
    image: Path,
    run: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    status: int,
    sentence: str,
) -> None:
    (tmp_path / "text.nrrd").write_text("this is no image", encoding="utf-8")
    (tmp_path / "empty.nrrd").touch()
    (tmp_path / "cut.nrrd").write_bytes(image.read_bytes()[:-5000])
    sitk.WriteImage(sitk.Image(8, 8, 8, sitk.sitkInt16), str(tmp_path / "flat.nrrd"))
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkInt16), str(tmp_path / "plane.nrrd"))
    (tmp_path / "folder").mkdir()
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("a.txt", "no image")
    point = {"type": "point", "ras": CENTRES[0]}
    for name, prompts in (
        ("p.json", [("a", [point])]),
        ("twice.json", [("a", [point]), ("a", [point])]),
        ("text.json", [("a", [{"type": "text", "text": "liver"}])]),
        ("mask.json", [("a", [{"type": "mask", "shape": [2, 2, 2], "runs": [0, 8]}])]),
    ):
        write_json(tmp_path / name, {"segments": [{"name": n, "prompts": p} for n, p in prompts]})
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.status == status, result
    assert sentence in result.err
    assert result.out == "" and "Traceback" not in result.err
    *progress, last = result.err.splitlines()
    assert last.endswith((".", "--help)")), last
    assert all(line.endswith(("...", "?")) for line in progress), progress
    after = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("option", ["--out", "--picture", "--table"])
def test_no_output_is_written_over_an_input_or_another_output(
    tmp_path: Path, image: Path, run: Command, option: str
) -> None:
    suffix = {"--out": ".seg.nrrd", "--picture": ".png", "--table": ".csv"}[option]
    source = image.rename(tmp_path / f"image{suffix}")
    contents = source.read_bytes()
    names = [source, tmp_path / "folder" / ".." / source.name, tmp_path / f"link{suffix}", tmp_path / f"hard{suffix}"]
    (tmp_path / "folder").mkdir()
    if os.name != "nt":
        names[2].symlink_to(source)
        os.link(source, names[3])
    for name in names[: 4 if os.name != "nt" else 2]:
        others = {"--out": tmp_path / "o.seg.nrrd", option: name}
        options = [text for pair in others.items() for text in pair]
        result = run("segment", source, "--point", POINTS[0], *options)
        assert result.status == 2 and "would be written over" in result.err, name
        assert source.read_bytes() == contents
    assert run("replay", source, "--out", source).status == 2 if option == "--out" else True


@pytest.mark.usefixtures("bright")
def test_what_was_there_stays_when_the_new_file_cannot_be_completed(
    tmp_path: Path, image: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.seg.nrrd"
    out.write_text("earlier work", encoding="utf-8")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", interrupted)
        result = run("segment", image, "--point", POINTS[0], "--out", out)
    assert result.status == 130 and result.err.splitlines()[-1] == "Cancelled; no file was left half written."
    assert out.read_text(encoding="utf-8") == "earlier work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nrrd", "o.seg.nrrd"]
    assert run("segment", image, "--point", POINTS[0], "--out", out).status == 0
    assert len(read_segmentation(out).records) == 1


def test_with_json_a_failure_is_an_object_too(tmp_path: Path, image: Path, run: Command) -> None:
    result = run("segment", image, "--point", "9999,0,0", "--out", tmp_path / "o.seg.nrrd", "--json")
    assert result.status == 1
    assert result.data["error"]["type"] == "PromptError"
    assert result.data["error"]["message"] == result.err.splitlines()[-1]


def test_a_fault_of_the_program_is_a_sentence_with_a_way_to_see_more(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(commands_models, "list_models", broken)
    result = run("models", "list")
    assert result.status == 1 and "Traceback" not in result.err and "ZeroDivisionError: by nothing" in result.err
    monkeypatch.setenv("FOUNDATIONSEG_TRACEBACK", "1")
    assert "Traceback" in run("models", "list").err
    monkeypatch.setattr(commands_models, "list_models", lambda *_: (_ for _ in ()).throw(MemoryError()))
    assert "not enough memory" in run("models", "list").err


def test_series_are_listed_without_what_may_name_a_person(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from FoundationSegLib.dicom import SeriesInfo

    series = [SeriesInfo(1, "CT", 60, "1.2.3", "Thorax of Doe"), SeriesInfo(2, "PT", 60, "1.2.4", "Doe, whole body")]

    def several(*_: Any) -> None:
        raise DicomSeriesError(
            "There are several DICOM series (1: CT, 60 images; 2: PT, 60 images); choose one.", series
        )

    monkeypatch.setattr(commands_models, "list_models", several)
    result = run("models", "list", "--json")
    assert [entry["number"] for entry in result.data["error"]["series"]] == [1, 2]
    assert "Doe" not in result.out + result.err and "1.2.3" not in result.out + result.err


# --- replay ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def segmented(bright: None, image: Path, tmp_path: Path, run: Command) -> Path:
    """Two segments made from prompts, saved beside their image."""
    out = tmp_path / "o.seg.nrrd"
    prompts = write_json(tmp_path / "p.json", TWO_SEGMENTS)
    assert run("segment", image, "--prompts", prompts, "--out", out).status == 0
    return out


def rewrite(path: Path, change: Callable[[SegmentRecord], None], extra: tuple[SegmentRecord, ...] = ()) -> None:
    records = read_segmentation(path).records
    for record in records:
        change(record)
    write_segmentation(path, VOLUME, [*records, *extra])


def test_replay_finds_the_volume_and_gets_the_same_bits(
    segmented: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Volume(VOLUME.array + np.int16(1), OBLIQUE)
    sitk.WriteImage(other.to_sitk(), str(tmp_path / "another.nrrd"))
    (tmp_path / "broken.nrrd").write_text("no image", encoding="utf-8")
    new = tmp_path / "new.seg.nrrd"
    result = run("replay", segmented, "--out", new, "--json")
    assert result.status == 0, result.err
    assert result.data["identical"] and [s["status"] for s in result.data["segments"]] == ["identical"] * 2
    assert "Yes: " in result.err
    for before, after in zip(read_segmentation(segmented).records, read_segmentation(new).records, strict=True):
        np.testing.assert_array_equal(before.mask, after.mask)
        assert (before.name, before.segment_id, before.terminology) == (after.name, after.segment_id, after.terminology)
        assert before.color == pytest.approx(after.color)
    # From elsewhere, with the image in the current folder instead of beside the segmentation.
    (tmp_path / "apart").mkdir()
    moved = segmented.rename(tmp_path / "apart" / "o.seg.nrrd")
    monkeypatch.chdir(tmp_path)
    assert run("replay", moved).status == 0


def test_replay_names_the_volume_that_is_missing_or_wrong(
    segmented: Path, image: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "apart").mkdir()
    moved = image.rename(tmp_path / "apart" / "image.nrrd")
    monkeypatch.chdir(tmp_path)
    missing = run("replay", segmented)
    assert missing.status == 1 and "say where it is with --volume" in missing.err
    assert run("replay", segmented, "--volume", moved).status == 0
    sitk.WriteImage(Volume(VOLUME.array + np.int16(1), OBLIQUE).to_sitk(), str(tmp_path / "another.nrrd"))
    wrong = run("replay", segmented, "--volume", tmp_path / "another.nrrd")
    assert wrong.status == 1 and "not made from this volume" in wrong.err


def test_replay_tells_which_segment_was_edited(segmented: Path, run: Command) -> None:
    def edit(record: SegmentRecord) -> None:
        if record.name == "Tumour ä":
            record.mask[0, 0, :3] = True

    rewrite(segmented, edit)
    result = run("replay", segmented, "--json")
    assert result.status == 1 and not result.data["identical"]
    kidney, tumour = result.data["segments"]
    assert (kidney["status"], tumour["status"], tumour["differing_voxels"]) == ("identical", "different", 3)
    assert 0.9 < tumour["dice"] < 1
    assert "different  Tumour ä: 3 voxels differ" in run("replay", segmented).out


def test_replay_tells_of_another_model_device_and_software(segmented: Path, run: Command, tmp_path: Path) -> None:
    def age(record: SegmentRecord) -> None:
        provenance = json.loads(record.tags[PROVENANCE_TAG])
        provenance |= {"revision": "0.9", "sha256": "ab" * 32, "device": "cuda", "software": "FoundationSeg 0.0.9"}
        provenance["versions"]["numpy"] = "1.26.4"
        record.tags[PROVENANCE_TAG] = json.dumps(provenance)

    rewrite(segmented, age)
    result = run("replay", segmented, "--out", tmp_path / "new.seg.nrrd")
    assert result.status == 0
    others = ("revision 0.9 (sha256 abababababab...)", 'on "cuda" and replayed on "cpu"', "0.0.9", "numpy 1.26.4 (now")
    for fact in others:
        assert fact in result.out
    assert result.out.count("revision 0.9") == 1, "once for all segments"
    for record in read_segmentation(tmp_path / "new.seg.nrrd").records:
        assert json.loads(record.tags[PROVENANCE_TAG])["revision"] == "test", "what is written says who made it"


def test_replay_keeps_segments_that_were_not_made_from_prompts(segmented: Path, run: Command, tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 4:8, 5:9] = True
    rewrite(segmented, lambda record: None, (SegmentRecord("By hand", mask),))
    result = run("replay", segmented, "--out", tmp_path / "new.seg.nrrd")
    assert result.status == 0 and "skipped    By hand: no prompts are stored with it" in result.out
    np.testing.assert_array_equal(read_segmentation(tmp_path / "new.seg.nrrd").records[2].mask, mask)


def test_replay_reads_what_slicer_has_cropped(segmented: Path, run: Command) -> None:
    """Slicer saves only the part of the grid that holds segments."""
    file = read_segmentation(segmented)
    filled = np.argwhere(np.logical_or.reduce([record.mask for record in file.records]))
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    matrix = OBLIQUE.copy()
    matrix[:3, 3] = VOLUME.kji_to_ras(low)
    for record in file.records:
        record.mask = record.mask[box]
    part = Volume(VOLUME.array[box], matrix)
    write_segmentation(segmented, part, file.records)
    assert read_segmentation(segmented).shape != SHAPE
    result = run("replay", segmented)
    assert result.status == 0 and result.out.count("identical") == 2


def test_a_mask_on_another_grid_is_not_forced_onto_the_volume(segmented: Path, run: Command, image: Path) -> None:
    file = read_segmentation(segmented)
    shifted = Volume(VOLUME.array, np.array(OBLIQUE) + np.array([[0, 0, 0, 0.2], [0] * 4, [0] * 4, [0] * 4]))
    write_segmentation(segmented, shifted, file.records)
    result = run("replay", segmented, "--volume", image)
    assert result.status == 1 and "does not lie on the volume's grid" in result.out
    far = Volume(VOLUME.array, OBLIQUE @ np.array([[1, 0, 0, 25], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    write_segmentation(segmented, far, file.records)
    moved = read_segmentation(segmented)
    assert onto_grid(moved, moved.records[0].mask, VOLUME) is None


def test_damaged_prompts_are_named_with_their_segment(segmented: Path, run: Command, image: Path) -> None:
    rewrite(segmented, lambda record: record.tags.update({PROMPTS_TAG: "[{"}))
    for arguments in ((), ("--volume", image)):
        result = run("replay", segmented, *arguments)
        assert result.status == 1 and 'segment "Left kidney" are damaged' in result.err
    assert issubclass(SegmentationFileError, Exception)


# --- demo and models -------------------------------------------------------------------------------------------------


def test_demo_leaves_a_folder_that_can_be_replayed(
    tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("demo")
    assert result.status == 0, result.err
    folder = tmp_path / "demo-output"
    assert {path.name for path in folder.iterdir()} == {
        "CTChest4.nrrd",
        "segmentation.seg.nrrd",
        "picture.png",
        "table.csv",
    }
    assert "Dice" in result.out and "mean HU" in result.out
    first, second = result.out.splitlines()[-2:]
    assert (
        "demo-output" in first
        and "segmentation.seg.nrrd" in first
        and "picture.png" in second
        and "table.csv" in second
    )
    for record in read_segmentation(folder / "segmentation.seg.nrrd").records:
        assert record.terminology and record.mask.any()
    again = run("replay", folder / "segmentation.seg.nrrd", "--json")
    assert again.status == 0 and again.data["identical"]
    assert run("demo", "--json").data["segments"][0]["dice"] > 0


@pytest.mark.usefixtures("bright")
def test_demo_on_a_volume_of_one_s_own(tmp_path: Path, image: Path, run: Command) -> None:
    result = run("demo", image, "--point", POINTS[0], "--segment", "Cyst", "--out", tmp_path / "a" / "b", "--json")
    assert result.status == 0, result.err
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {
        "segmentation.seg.nrrd",
        "picture.png",
        "table.csv",
    }
    assert "dice" not in result.data["segments"][0] and result.data["command"] == "demo"


def test_models_are_listed_and_shown(run: Command) -> None:
    listed = run("models", "list", "--json")
    assert "compact" in [card["name"] for card in listed.data["models"]]
    assert "\ncompact  " in run("models", "list").out
    shown = run("models", "show", "compact")
    assert "Apache-2.0" in shown.out and "sha256" in shown.out and "missing" not in shown.out
    assert run("models", "show", "compact", "--json").data["models"][0]["name"] == "compact"


# --- As a process of its own -----------------------------------------------------------------------------------------


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "FoundationSegLib", *map(str, arguments)]
    options = {"cwd": MODULE, "capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run(command, check=False, **options)


def test_the_package_is_the_command() -> None:
    result = process("--version")
    assert result.returncode == 0 and result.stdout.startswith("foundation-seg ")
    assert process("segment").returncode == 2


def test_a_name_that_the_terminal_cannot_show_is_no_failure(tmp_path: Path, image: Path) -> None:
    prompts = write_json(tmp_path / "p.json", TWO_SEGMENTS)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = process("segment", image, "--prompts", prompts, "--out", tmp_path / "o.seg.nrrd", env=environment)
    assert result.returncode == 0, result.stderr
    assert "Tumour \\xe4" in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise on Windows")
def test_a_reader_that_goes_away_is_no_failure_of_ours() -> None:
    command = [sys.executable, "-m", "FoundationSegLib", "models", "list"]
    child = subprocess.Popen(command, cwd=MODULE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert "Traceback" not in child.stderr.read()
    child.wait(timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_control_c_cancels_without_a_trace(tmp_path: Path, image: Path) -> None:
    out = tmp_path / "o.seg.nrrd"
    out.write_text("earlier work", encoding="utf-8")
    segments = [{"name": f"s{n}", "prompts": [{"type": "point", "ras": CENTRES[n % 2]}]} for n in range(400)]
    prompts = write_json(tmp_path / "many.json", {"segments": segments})
    # A shell that runs the tests in the background has Ctrl-C ignored, and children inherit that.
    start = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "runpy.run_module('FoundationSegLib', run_name='__main__')"
    command = [sys.executable, "-c", start, "segment", image, "--prompts", prompts, "--out", out]
    child = subprocess.Popen(command, cwd=MODULE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert any(line.startswith("Segmenting s2") for line in child.stderr)
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert stderr.splitlines()[-1] == "Cancelled; no file was left half written."
    assert "Traceback" not in stderr and stdout == ""
    assert out.read_text(encoding="utf-8") == "earlier work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.nrrd", "many.json", "o.seg.nrrd"]


# --- Real volumes ----------------------------------------------------------------------------------------------------


@real_data
def test_a_zip_with_dicom_images(tmp_path: Path, run: Command) -> None:
    """A real CT with an RTSTRUCT beside it, from the archive to a segmentation and back."""
    assert REAL_DATA is not None
    source = REAL_DATA / "ct_lung_ibsi_phantom" / "dicom.zip"
    volume = Volume.read(source)
    centre = ",".join(f"{x:.1f}" for x in volume.kji_to_ras((np.array(volume.shape) - 1) / 2))
    out = tmp_path / "o.seg.nrrd"
    result = run("segment", source, "--point", centre, "--out", out, "--table", tmp_path / "t.csv", "--json")
    assert result.status == 0, result.err
    assert result.data["volume"]["modality"] == "CT" and result.data["segments"][0]["unit"] == "HU"
    np.testing.assert_allclose(read_segmentation(out).ijk_to_ras, volume.ijk_to_ras, atol=1e-9)
    again = run("replay", out, "--volume", source)
    assert again.status == 0 and "identical" in again.out, again


@real_data
def test_of_several_dicom_series_one_has_to_be_chosen(tmp_path: Path, run: Command) -> None:
    assert REAL_DATA is not None
    source = REAL_DATA / "sts_006_ct" / "dicom_ct_mr_pet.zip"
    out = ("--out", tmp_path / "o.seg.nrrd", "--json")
    several = run("segment", source, "--point", "0,0,0", *out)
    assert several.status == 1 and "--series N" in several.err
    series = several.data["error"]["series"]
    assert sorted(entry["modality"] for entry in series) == ["CT", "MR", "PT"]
    for entry in series:
        volume = Volume.read(source, series=str(entry["number"]))
        centre = ",".join(f"{x:.1f}" for x in volume.kji_to_ras((np.array(volume.shape) - 1) / 2))
        result = run("segment", source, "--series", entry["number"], "--point", centre, *out)
        assert result.status == 0, result.err
        assert result.data["volume"]["modality"] == entry["modality"]
        assert (result.data["segments"][0]["unit"] == "HU") == (entry["modality"] == "CT")
    none = run("segment", source, "--series", "9", "--point", "0,0,0", *out)
    assert none.status == 1 and "no such DICOM series" in none.err
