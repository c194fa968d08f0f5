# SPDX-License-Identifier: Apache-2.0
"""Segmentation files: nothing is lost on the way to the disk and back, nor when the way is barred."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from FoundationSegLib import atomic
from FoundationSegLib.atomic import atomic_output
from FoundationSegLib.errors import OutputError, SegmentationFileError
from FoundationSegLib.segmentation_io import (
    SegmentRecord,
    escape_tag,
    read_segmentation,
    unescape_tag,
    write_segmentation,
)
from FoundationSegLib.volume import Volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import GEOMETRIES, OBLIQUE, SHAPE, SHEARED, VOXELS, matrices, nrrd_bytes

VOLUME = Volume(VOXELS, OBLIQUE)
KIDNEY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^64033007^Kidney~SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^"
)
RANDOM = np.random.default_rng(11)
# Whatever a person may type, but for control characters and the blanks around it.
texts = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" \n"), max_size=40)
names = texts.map(str.strip).filter(bool).map(lambda name: name.replace("\r", ""))


def box(k: slice, j: slice, i: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[k, j, i] = True
    return mask


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "out.seg.nrrd"


def header_of(path: Path) -> dict[str, str]:
    head = path.read_bytes().split(b"\n\n", 1)[0].decode()
    return dict(line.split(":=" if ":=" in line else ": ", 1) for line in head.splitlines()[1:] if line[0] != "#")


class TestRoundTrip:
    @pytest.mark.parametrize("matrix", GEOMETRIES.values(), ids=GEOMETRIES)
    def test_masks_geometry_and_descriptions(self, path, matrix):
        records = [
            SegmentRecord("Left kidney", RANDOM.random(SHAPE) > 0.5, (0.1, 0.25, 1.0), KIDNEY, {"A.b": "c"}, "kidney"),
            SegmentRecord("Überlappend 重なり", RANDOM.random(SHAPE) > 0.5),
            SegmentRecord("empty", np.zeros(SHAPE, dtype=bool)),
            SegmentRecord("all", np.ones(SHAPE, dtype=bool)),
        ]
        assert write_segmentation(path, Volume(VOXELS, matrix), records) == path
        read = read_segmentation(path)
        assert read.shape == SHAPE
        np.testing.assert_array_equal(read.ijk_to_ras, matrix)
        for expected, record in zip(records, read.records, strict=True):
            assert np.array_equal(record.mask, expected.mask)
            assert record.mask.dtype == np.bool_
            assert (record.name, record.terminology, record.tags) == (
                expected.name,
                expected.terminology,
                expected.tags,
            )
        assert read.records[0].color == (0.1, 0.25, 1.0)
        assert read.records[0].segment_id == "kidney"
        assert len({record.segment_id for record in read.records}) == 4
        assert len({record.color for record in read.records}) == 4

    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=names, tags=st.dictionaries(st.from_regex(r"[A-Za-z.]{1,10}", fullmatch=True), texts, max_size=4))
    def test_any_text(self, path, name, tags):
        tags.pop("TerminologyEntry", None)
        write_segmentation(path, VOLUME, [SegmentRecord(name, VOXELS > 0, tags=tags)])
        (record,) = read_segmentation(path).records
        assert (record.name, record.tags) == (name, tags)

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(matrix=matrices(), seeds=st.lists(st.integers(0, 2**32 - 1), max_size=5), share=st.floats(0, 1))
    def test_any_masks_on_any_grid(self, path, matrix, seeds, share):
        masks = [np.random.default_rng(seed).random(SHAPE) < share for seed in seeds]
        write_segmentation(path, Volume(VOXELS, matrix), [SegmentRecord(str(n), m) for n, m in enumerate(masks)])
        read = read_segmentation(path)
        np.testing.assert_array_equal(read.ijk_to_ras, matrix)
        assert len(read.records) == len(masks)
        assert all(np.array_equal(record.mask, mask) for record, mask in zip(read.records, masks, strict=True))

    def test_more_segments_than_a_byte_can_number(self, path):
        masks = [np.zeros((8, 8, 8), dtype=bool) for _ in range(300)]
        for n, mask in enumerate(masks):
            mask.flat[n] = True
        volume = Volume(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4))
        write_segmentation(path, volume, [SegmentRecord(str(n), mask) for n, mask in enumerate(masks)])
        assert header_of(path)["dimension"] == "3"
        assert all(np.array_equal(r.mask, m) for r, m in zip(read_segmentation(path).records, masks, strict=True))

    def test_same_input_gives_the_same_bytes(self, path, tmp_path):
        records = [SegmentRecord("a", VOXELS > 0), SegmentRecord("b", VOXELS > 100, tags={"x": "y"})]
        write_segmentation(path, VOLUME, records)
        again = write_segmentation(tmp_path / "again.seg.nrrd", VOLUME, records)
        assert path.read_bytes() == again.read_bytes()
        # The library below would write the time.
        assert b"\n# on " not in path.read_bytes()

    @pytest.mark.parametrize("text", ["a|b", "100 %", "%7C", "%25", "%%257C", '{"name": "x|y"}', ""])
    def test_escaped_tags(self, text):
        assert "|" not in escape_tag(text)
        assert unescape_tag(escape_tag(text)) == text

    def test_only_what_has_to_be_is_escaped(self):
        assert escape_tag('{"share": "50 %", "a": [1]}') == '{"share": "50 %", "a": [1]}'


class TestLayers:
    def test_segments_apart_share_one_layer_and_its_extent(self, path):
        first, second = box(slice(0, 1), slice(0, 2), slice(0, 3)), box(slice(3, 5), slice(4, 6), slice(5, 7))
        write_segmentation(path, VOLUME, [SegmentRecord("a", first), SegmentRecord("b", second)])
        header = header_of(path)
        assert header["dimension"] == "3"
        assert [header[f"Segment{n}_Layer"] for n in (0, 1)] == ["0", "0"]
        assert [header[f"Segment{n}_LabelValue"] for n in (0, 1)] == ["1", "2"]
        # Slicer crops a layer to the extent of its first segment.
        assert [header[f"Segment{n}_Extent"] for n in (0, 1)] == ["0 6 0 5 0 4"] * 2

    def test_overlapping_segments_get_layers_with_extents_of_their_own(self, path):
        small, large = box(slice(1, 3), slice(1, 3), slice(1, 3)), box(slice(0, 4), slice(0, 4), slice(0, 4))
        write_segmentation(path, VOLUME, [SegmentRecord("a", small), SegmentRecord("b", large)])
        header = header_of(path)
        assert header["kinds"] == "list domain domain domain"
        assert header["sizes"] == "2 7 6 5"
        assert header["Segment0_Extent"] == "1 2 1 2 1 2"
        assert header["Segment1_Extent"] == "0 3 0 3 0 3"


class TestRefusesToWrite:
    @pytest.mark.parametrize(
        ("record", "words"),
        [
            (SegmentRecord("a", np.zeros((2, 2, 2), dtype=bool)), r'"a" has a mask of shape \(2, 2, 2\)'),
            (SegmentRecord("a", VOXELS > 0, tags={"a:b": "c"}), '"a:b" has a colon'),
            (SegmentRecord("a", VOXELS > 0, segment_id="two words"), '"two words" has a colon, a bar or a space'),
        ],
    )
    def test_records_that_do_not_fit(self, path, record, words):
        with pytest.raises(OutputError, match=words):
            write_segmentation(path, VOLUME, [record])
        assert not path.exists()

    def test_two_segments_of_one_id(self, path):
        with pytest.raises(OutputError, match="same ID"):
            write_segmentation(path, VOLUME, [SegmentRecord("a", VOXELS > 0, segment_id="x")] * 2)

    def test_a_name_that_slicer_would_not_recognise(self, tmp_path):
        with pytest.raises(OutputError, match=r"end in \.seg\.nrrd"):
            write_segmentation(tmp_path / "out.nrrd", VOLUME, [])


class TestOutputIsAllOrNothing:
    @pytest.fixture
    def before(self, path):
        """An earlier file at the same place, which has to be there still; beside it nothing."""
        write_segmentation(path, VOLUME, [SegmentRecord("before", VOXELS > 0)])
        content = path.read_bytes()
        yield
        assert path.read_bytes() == content
        assert os.listdir(path.parent) == [path.name]

    def test_on_a_full_disk(self, path, before):
        resource = pytest.importorskip("resource", reason="this system has no limit for the size of files")
        noise = Volume(RANDOM.integers(0, 99, (64, 64, 64)).astype(np.int16), OBLIQUE)
        records = [SegmentRecord("noise", RANDOM.random((64, 64, 64)) > 0.5)]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(OutputError, match="not enough space left; free some space") as caught:
                write_segmentation(path, noise, records)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(path) in str(caught.value)

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (errno.ENOSPC, "not enough space"),
            (errno.EACCES, "not writable"),
            (errno.EROFS, "not writable"),
            (errno.EIO, "input/output error"),
        ],
    )
    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_when_the_system_refuses(self, path, before, monkeypatch, step, code, words):
        def refuse(*_args):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(atomic.os, step, refuse)
        with pytest.raises(OutputError, match=words):
            write_segmentation(path, VOLUME, [SegmentRecord("after", VOXELS > 0)])

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_when_the_writer_fails(self, path, before, error):
        with pytest.raises(error), atomic_output(path) as file:
            file.write(b"half")
            raise error

    def test_in_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(OutputError, match="folder does not exist; create the folder"):
            write_segmentation(tmp_path / "none" / "a.seg.nrrd", VOLUME, [])

    def test_over_a_folder(self, tmp_path):
        (tmp_path / "a.seg.nrrd").mkdir()
        with pytest.raises(OutputError, match="it is a folder"):
            write_segmentation(tmp_path / "a.seg.nrrd", VOLUME, [])
        assert os.listdir(tmp_path) == ["a.seg.nrrd"]

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not stop the super-user"
    )
    def test_in_a_folder_that_may_not_be_written(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="not writable"):
            write_segmentation(tmp_path / "a.seg.nrrd", VOLUME, [])
        tmp_path.chmod(0o700)

    def test_through_a_link_replaces_what_it_points_to(self, tmp_path):
        (tmp_path / "real").mkdir()
        link, target = tmp_path / "link.seg.nrrd", tmp_path / "real" / "target.seg.nrrd"
        target.write_bytes(b"old")
        link.symlink_to(target)
        write_segmentation(link, VOLUME, [])
        assert link.is_symlink()
        assert read_segmentation(target).records == []

    def test_has_the_permissions_that_the_user_wants(self, path):
        mask = os.umask(0o027)
        try:
            write_segmentation(path, VOLUME, [])
        finally:
            os.umask(mask)
        assert path.stat().st_mode & 0o777 == 0o640


class TestReading:
    def test_files_from_before_layers(self, path):
        """One component per segment, and no layer or label value."""
        masks = np.stack([VOXELS > 0, VOXELS > 500], axis=-1).astype(np.uint8)
        extra = "".join(f"Segment{n}_ID:=S{n}\nSegment{n}_Name:=name {n}\nSegment{n}_Color:=1 0 {n}\n" for n in (0, 1))
        matrix_fields = nrrd_bytes(VOXELS, SHEARED).split(b"space directions: ")[1].split(b"\n")[0].decode()
        path.write_bytes(
            nrrd_bytes(
                masks,
                SHEARED,
                extra=extra,
                kinds="list domain domain domain",
                space_directions=f"none {matrix_fields}",
            )
        )
        read = read_segmentation(path)
        np.testing.assert_allclose(read.ijk_to_ras, SHEARED, atol=1e-12)
        assert [record.name for record in read.records] == ["name 0", "name 1"]
        assert read.records[1].color == (1.0, 0.0, 1.0)
        assert all(np.array_equal(r.mask, masks[..., n] > 0) for n, r in enumerate(read.records))

    @pytest.mark.parametrize(
        ("tags", "expected"),
        [
            ("", {}),
            ("|", {}),
            ("no colon|a:b|", {"a": "b"}),
            ("Segmentation.Status:inprogress|a:b:c", {"Segmentation.Status": "inprogress", "a": "b:c"}),
        ],
    )
    def test_odd_tags(self, path, tags, expected):
        path.write_bytes(nrrd_bytes((VOXELS > 0).astype(np.uint8), extra=f"Segment0_ID:=a\nSegment0_Tags:={tags}\n"))
        assert read_segmentation(path).records[0].tags == expected

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"", "is empty"),
            (b"hello", "not a 3D Slicer segmentation"),
            (nrrd_bytes()[:-10], "cut short"),
            (nrrd_bytes(VOXELS.reshape(30, 7), None), "not hold a 3-D segmentation"),
            (nrrd_bytes(extra="Segment0_LabelValue:=one\n"), "descriptions of its segments are damaged"),
            (nrrd_bytes(extra="Segment0_Layer:=7\n"), "descriptions of its segments are damaged"),
            (nrrd_bytes(extra="Segment0_Color:=1 2\n"), "descriptions of its segments are damaged"),
        ],
    )
    def test_refuses(self, path, content, words):
        path.write_bytes(content)
        with pytest.raises(SegmentationFileError, match=words) as caught:
            read_segmentation(path)
        assert str(caught.value).startswith(f"{path}: ")

    def test_refuses_what_is_not_there(self, path):
        with pytest.raises(SegmentationFileError, match="no such file"):
            read_segmentation(path)

    @pytest.mark.parametrize("name", ["Segmentation.seg.nrrd", "SegmentationOverlapping.seg.nrrd"])
    def test_agrees_with_slicerio_on_files_of_slicer(self, name):
        import slicerio

        file = Path(slicerio.__file__).parent / "data" / name
        expected = slicerio.read_segmentation(str(file))
        read = read_segmentation(file)
        np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ read.ijk_to_ras, expected["ijkToLPS"])
        assert len(read.records) == len(expected["segments"]) > 1
        for record, segment in zip(read.records, expected["segments"], strict=True):
            assert (record.name, record.segment_id) == (segment["name"], segment["id"])
            assert record.color == tuple(segment["color"])
            voxels = expected["voxels"]
            layer = voxels[segment["layer"]] if voxels.ndim == 4 else voxels
            assert np.array_equal(record.mask.T, layer == segment["labelValue"])


class TestSlicer:
    """The real reader and writer of 3D Slicer (slicer-core)."""

    @pytest.fixture
    def load(self):
        scene_case = pytest.importorskip("scene_case", exc_type=ImportError)
        slicer = scene_case.slicer

        def _load(path: Path):
            node = slicer.vtkMRMLSegmentationNode()
            slicer.mrmlScene.AddNode(node)
            storage = slicer.vtkMRMLSegmentationStorageNode()
            slicer.mrmlScene.AddNode(storage)
            storage.SetFileName(str(path))
            node.SetAndObserveStorageNodeID(storage.GetID())
            assert storage.ReadData(node)
            return slicer, node, storage

        return _load

    @pytest.mark.parametrize("matrix", GEOMETRIES.values(), ids=GEOMETRIES)
    def test_opens_what_is_written_and_writes_what_is_read(self, path, load, matrix):
        from vtkmodules.util.numpy_support import vtk_to_numpy
        from vtkmodules.vtkCommonCore import reference
        from vtkmodules.vtkCommonMath import vtkMatrix4x4

        small, large = box(slice(1, 2), slice(2, 3), slice(3, 4)), box(slice(3, 5), slice(4, 6), slice(5, 7))
        records = [
            SegmentRecord("Niere 腎 \\n", small, (0.5, 0.25, 1.0), KIDNEY, {"F.P": '{"a": "\\"é\\" |"}'}, "kidney"),
            SegmentRecord("apart", large),
            SegmentRecord("overlapping", RANDOM.random(SHAPE) > 0.3),
            SegmentRecord("empty", np.zeros(SHAPE, dtype=bool)),
        ]
        write_segmentation(path, Volume(VOXELS, matrix), records)
        slicer, node, storage = load(path)
        segmentation = node.GetSegmentation()
        assert segmentation.GetNumberOfSegments() == len(records)
        for index, record in enumerate(records):
            segment = segmentation.GetNthSegment(index)
            image = segment.GetRepresentation("Binary labelmap")
            to_world = vtkMatrix4x4()
            image.GetImageToWorldMatrix(to_world)
            placed = [[to_world.GetElement(row, column) for column in range(4)] for row in range(4)]
            np.testing.assert_allclose(placed, matrix, atol=1e-9)
            i0, i1, j0, j1, k0, k1 = image.GetExtent()
            mask = np.zeros(SHAPE, dtype=bool)
            labels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
            mask[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = labels == segment.GetLabelValue()
            assert np.array_equal(mask, record.mask)
            assert segment.GetName() == record.name
        first = segmentation.GetSegment("kidney")
        value = reference("")
        assert first.GetTag("F.P", value)
        assert unescape_tag(str(value)) == records[0].tags["F.P"]
        assert first.GetTag("TerminologyEntry", value)
        assert str(value) == KIDNEY
        np.testing.assert_allclose(first.GetColor(), records[0].color)
        grid = slicer.vtkOrientedImageData()
        parameter = segmentation.GetConversionParameter("Reference image geometry")
        assert slicer.vtkSegmentationConverter.DeserializeImageGeometry(parameter, grid, False)
        assert grid.GetExtent() == (0, SHAPE[2] - 1, 0, SHAPE[1] - 1, 0, SHAPE[0] - 1)

        for cropped in (False, True):
            storage.SetCropToMinimumExtent(cropped)
            storage.SetFileName(str(path.with_name(f"slicer{cropped}.seg.nrrd")))
            assert storage.WriteData(node)
            read = read_segmentation(storage.GetFileName())
            inverse = np.linalg.inv(matrix) @ read.ijk_to_ras
            assert (read.records[0].name, read.records[0].tags["F.P"]) == (records[0].name, records[0].tags["F.P"])
            for expected, record in zip(records, read.records, strict=True):
                # Slicer may crop the grid: the same voxels at the same place.
                ijk = np.argwhere(record.mask)[:, ::-1] @ inverse[:3, :3].T + inverse[:3, 3]
                np.testing.assert_allclose(ijk, np.argwhere(expected.mask)[:, ::-1], atol=1e-6)
