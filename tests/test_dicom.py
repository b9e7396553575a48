"""DICOM: values to levels by hand-worked numbers, frames, colour, and what of a header stays out of a gallery."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    generate_uid,
)

from conftest import Cli
from lookalike.errors import InputError, UnreadableImage
from lookalike.images import dicom, read, read_bytes, read_file
from lookalike.images.dicom import check_fields, fields, split_frame, window
from lookalike.images.dicom_apart import Child, Ended
from lookalike.images.header import read_header

RAMP = np.arange(16 * 16, dtype=np.uint16).reshape(16, 16) * 16
SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "dicom_samples" / "files"


def dataset(pixels: np.ndarray | None = RAMP, **elements: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.PatientName, made.PatientAge, made.BodyPartExamined = "Secret^Person", "042Y", "CHEST"
    made.PatientID = "Number-of-a-Person"
    if pixels is not None:
        made.Rows, made.Columns = pixels.shape[-2:]
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
        made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
        made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def written(made: FileDataset) -> bytes:
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def levels(**elements: Any) -> np.ndarray:
    pixels = elements.pop("pixels", RAMP)
    return read_bytes(written(dataset(pixels, **elements))).pixels[..., 0].astype(int)


def test_without_a_window_the_smallest_value_is_black_and_the_largest_white() -> None:
    assert np.abs(levels() - np.rint(255 * RAMP.astype(float) / 4080)).max() == 0


def test_eight_bits_without_a_window_stay_as_they_are() -> None:
    pixels = np.full((16, 16), 100, np.uint8)
    pixels[0, 0] = 120
    assert (levels(pixels=pixels) == pixels).all()


def test_a_window_is_applied_after_rescaling_as_the_standard_says() -> None:
    # PS3.3 C.11.2.1.2.1: below c - .5 - (w - 1) / 2 black, above c - .5 + (w - 1) / 2 white, linear between.
    got = levels(WindowCenter=40, WindowWidth=400, RescaleSlope=2, RescaleIntercept=-1024, BitsStored=12, HighBit=11)
    for row, column in ((0, 0), (1, 14), (2, 0), (2, 5), (3, 9), (15, 15)):
        value = 2.0 * RAMP[row, column] - 1024
        if value <= 39.5 - 199.5:
            expected = 0.0
        elif value > 39.5 + 199.5:
            expected = 1.0
        else:
            expected = (value - 39.5) / 399 + 0.5
        assert got[row, column] == round(255 * expected)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [("LINEAR_EXACT", 60.0, 0.7), ("LINEAR_EXACT", 200.0, 1.0), ("SIGMOID", 40.0, 0.5), ("SIGMOID", 65.0, 0.731059)],
)
def test_the_other_windows_are_those_of_the_standard(function: str, value: float, expected: float) -> None:
    assert window(np.array([value]), 40, 100, function)[0] == pytest.approx(expected, abs=1e-6)


def test_low_values_are_bright_in_monochrome1() -> None:
    assert (levels(PhotometricInterpretation="MONOCHROME1") == 255 - levels()).all()


def test_signed_values_and_a_lookup_table_are_understood() -> None:
    signed = (RAMP.astype(np.int16) - 2000).astype(np.int16)
    assert (levels(pixels=signed) == levels()).all()
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [4, 100, 8], np.array([0, 85, 170, 255], "<u2").tobytes()
    stored = np.full((16, 16), 101, np.uint16)
    stored[0, 0], stored[0, 1], stored[0, 2] = 5, 103, 900
    got = levels(pixels=stored, VOILUTSequence=pydicom.Sequence([item]))
    assert [got[0, 0], got[0, 1], got[0, 2], got[5, 5]] == [0, 255, 255, 85]


def test_a_frame_is_named_by_its_number_and_the_first_is_read_without(tmp_path: Path) -> None:
    frames = np.stack([np.full((16, 16), value, np.uint8) for value in (10, 20, 30)])
    path = tmp_path / "scan.dcm"
    path.write_bytes(written(dataset(frames, NumberOfFrames=3)))
    for name, value in (("", 10), ("#1", 10), ("#2", 20), ("#3", 30)):
        image = read(f"{path}{name}")
        assert (image.pixels == value).all()
        assert image.source == f"{path}{name}"
    with pytest.raises(UnreadableImage, match="3 frames, asked for number 4"):
        read(f"{path}#4")
    with pytest.raises(UnreadableImage, match="no such file"):
        read(f"{tmp_path / 'gone.dcm'}#2")
    # A file may be called so, whatever it is.
    (tmp_path / "a#2").write_bytes(path.read_bytes())
    assert read_file(tmp_path / "a#2").data == path.read_bytes()
    assert split_frame("a/b.dcm#12") == ("a/b.dcm", 12)
    assert split_frame("a#0") == ("a#0", None)


def test_colour_comes_as_rgb_whatever_its_bits_and_space() -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:, :8], rgb[:, 8:] = (200, 30, 60), (10, 220, 120)
    colour = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    size = {"Rows": 16, "Columns": 16}
    assert (read_bytes(written(dataset(rgb, **colour, **size))).pixels == rgb).all()
    wide = rgb.astype(np.uint16) * 257
    assert (read_bytes(written(dataset(wide, **colour, **size))).pixels == rgb).all()
    # ITU-R BT.601, full range, as JFIF and DICOM's YBR_FULL have it.
    r, g, b = (rgb[..., channel].astype(float) for channel in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    ybr = np.stack([y, 128 + 0.5 * (b - y) / 0.886, 128 + 0.5 * (r - y) / 0.701], axis=-1)
    full = dataset(np.rint(ybr).astype(np.uint8), **{**colour, "PhotometricInterpretation": "YBR_FULL"}, **size)
    assert np.abs(read_bytes(written(full)).pixels.astype(int) - rgb).max() <= 2


def test_what_has_no_pixels_or_no_decoder_says_so() -> None:
    with pytest.raises(UnreadableImage, match="a DICOM file without pixels"):
        read_bytes(written(dataset(None)))
    with pytest.raises(UnreadableImage, match="DICOM"):
        read_bytes(written(dataset())[:400])
    broken = dataset()
    broken.PixelData = broken.PixelData[:100]
    with pytest.raises(UnreadableImage, match="DICOM"):
        read_bytes(written(broken))


def test_a_preamble_that_looks_like_another_format_hides_no_dicom(tmp_path: Path) -> None:
    made = dataset()
    plain = written(made)
    for start in (b"II*\0", b"MM\0*", b"\xff\xd8\xff\xe0", b"BM"):
        data = start + plain[len(start) :]
        assert (read_bytes(data).pixels == read_bytes(plain).pixels).all()
    assert read_header(b"II*\0" + plain[4:]).format == "DICOM"


def test_a_deflated_file_is_read_as_far_as_the_limit_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset(np.zeros((400, 400), np.uint16))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.PixelData = np.tile(RAMP, (25, 25)).tobytes()
    data = written(made)
    assert len(data) < 10_000
    assert (read_bytes(data).pixels[:16, :16, 0] == levels()).all()
    monkeypatch.setenv("LOOKALIKE_MAX_BYTES", "100000")
    with pytest.raises(UnreadableImage, match="raise LOOKALIKE_MAX_BYTES"):
        read_bytes(data)
    monkeypatch.delenv("LOOKALIKE_MAX_BYTES")
    with pytest.raises(UnreadableImage, match="DICOM"):
        read_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage, match="damaged DICOM: deflated"):
        read_bytes(data[:132] + b"\x02\0\x01\0" + data[136:])


def stream(kind: str, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1])).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(("kind", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
def test_a_compressed_frame_that_claims_to_be_larger_than_the_header_is_refused(kind: str, syntax: UID) -> None:
    made = dataset(np.zeros((16, 16), np.uint8))
    made.file_meta.TransferSyntaxUID = syntax
    made["PixelData"].is_undefined_length = True
    good = stream(kind, (16, 16))
    made.PixelData = pydicom.encaps.encapsulate([good])
    assert np.abs(read_bytes(written(made)).pixels[..., 0].astype(int) - np.arange(256).reshape(16, 16)).max() < 20
    # Its own size: in JPEG 2000 four bytes behind those of the mark, in JPEG two behind those of the frame's mark.
    at = good.index(b"\xff\x4f\xff\x51") + 12 if kind == "JPEG2000" else good.index(b"\xff\xc0") + 5
    for claim in (good[:at] + b"\x7f" + good[at + 1 :], stream(kind, (16, 17)), stream(kind, (8, 32))):
        made.PixelData = pydicom.encaps.encapsulate([claim])
        with pytest.raises(UnreadableImage, match=r"damaged DICOM: its frame is \d+x\d+x1 of 8 bits, its header says"):
            read_bytes(written(made))


def test_what_of_a_jpeg_no_decoder_reads_is_not_called_damaged() -> None:
    made = dataset(BitsStored=12, HighBit=11)
    made.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    with pytest.raises(UnreadableImage, match=r"JPEG Extended.* with 12 bits.*pylibjpeg") as refused:
        read_bytes(written(made))
    assert "damaged" not in str(refused.value)


TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_what_gdcm_decodes_in_a_process_of_its_own_is_what_it_decodes_in_ours(name: str) -> None:
    data = (TEST_FILES / name).read_bytes()
    apart = dicom._APART.decode(data, 0)
    assert (apart == dicom.raw_values(data, 0)).all()
    assert read_bytes(data).pixels.shape[:2] == apart.shape[:2]


def test_a_decoder_that_ends_over_a_file_costs_that_file_alone() -> None:
    data, child = (TEST_FILES / "JPEGLSNearLossless_08.dcm").read_bytes(), Child()
    dies = [sys.executable, "-c", "import sys; sys.stdin.buffer.read(12)"]
    child._process = subprocess.Popen(dies, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child._owner = os.getpid()
    with pytest.raises(Ended, match="its decoder ended over it"):
        child.decode(data, 0)
    assert child.decode(data, 0).shape == (45, 10)
    with pytest.raises(RuntimeError, match="8 frames"):
        child.decode(data, 7)
    child.stop()
    assert child.decode(data, 0).shape == (45, 10)
    child.stop()


def test_a_compression_without_its_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataset()
    made.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    made.file_meta.TransferSyntaxUID = JPEGLSLossless
    made["PixelData"].is_undefined_length = True
    data = written(made)
    with pytest.raises(UnreadableImage, match="JPEG-LS Lossless"):
        read_bytes(data)
    decoder = pydicom.pixels.get_decoder(JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"gdcm": ("gdcm",)})
    with pytest.raises(UnreadableImage, match=r"JPEG-LS Lossless.*pip install 'lookalike\[dicom\]'"):
        read_bytes(data)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(dataset())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UnreadableImage, match=r"pip install 'lookalike\[dicom\]'"):
        read_bytes(data)


def test_the_limits_on_pixels_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_MAX_PIXELS", "100")
    with pytest.raises(UnreadableImage, match="256 pixels; raise LOOKALIKE_MAX_PIXELS"):
        read_bytes(written(dataset()))


def test_its_header_tells_size_and_loss() -> None:
    found = read_header(written(dataset()))
    assert (found.format, found.width, found.height, found.lossless, found.taken) == ("DICOM", 16, 16, True, None)


def test_a_file_without_preamble_is_known_by_its_first_elements() -> None:
    made = dataset()
    made.StudyDate, made.Modality = "20200101", "OT"
    out = io.BytesIO()
    pydicom.filewriter.write_dataset(_stream(out), made)
    data = out.getvalue()
    assert data[:2] == b"\x08\0"
    assert (read_bytes(data).pixels[..., 0] == levels()).all()


def _stream(out: io.BytesIO) -> Any:
    stream = pydicom.filebase.DicomFileLike(out)
    stream.is_little_endian, stream.is_implicit_VR = True, False
    return stream


def test_fields_are_copied_by_name_alone() -> None:
    data = written(dataset(WindowCenter=["40", "50"], WindowWidth=["400", "80"]))
    assert fields(data, ["BodyPartExamined", "PatientAge", "WindowCenter", "StudyDate"]) == {
        "BodyPartExamined": "CHEST",
        "PatientAge": "042Y",
        "WindowCenter": "40, 50",
    }
    with pytest.raises(InputError, match="no field 'Patientage'"):
        check_fields(["Patientage"])
    with pytest.raises(InputError, match="holds no text or number"):
        check_fields(["PixelData"])


def test_nothing_of_a_patient_is_even_parsed() -> None:
    data = written(dataset())
    assert "PatientName" in pydicom.dcmread(io.BytesIO(data))
    for names in (dicom._NEEDED, dicom._SIZE):
        assert not [element.keyword for element in dicom._parsed(data, names) if element.tag.group == 0x10]


def test_nothing_of_a_patient_gets_into_a_gallery_unless_asked_for_by_name(tmp_path: Path, cli: Cli) -> None:
    folder, gallery = tmp_path / "scans", tmp_path / "g"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(written(dataset(np.roll(RAMP, 3 * number, 0))))
    assert cli("index", str(folder), "-g", str(gallery)).code == 0
    assert not any(b"Secret" in file.read_bytes() or b"042Y" in file.read_bytes() for file in _files(gallery))
    ran = cli("index", str(folder), "-g", str(gallery), "--dicom-field", "PatientAge")
    assert "3 updated" in ran.out
    items = cli("list", "-g", str(gallery), "--json").json["items"]
    assert [item["metadata"] for item in items] == [{"PatientAge": "042Y"}] * 3
    assert not any(b"Secret" in file.read_bytes() or b"Number-of" in file.read_bytes() for file in _files(gallery))
    assert cli("index", str(folder), "-g", str(gallery), "--dicom-field", "Nonsense").code == 2


def test_dedupe_acts_on_dicom_files_of_the_same_bytes_alone(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    one = np.kron(np.random.default_rng(0).integers(0, 255, (8, 8)), np.ones((16, 16))).astype(np.uint8)
    first = written(dataset(one))
    (folder / "a.dcm").write_bytes(first)
    (folder / "b.dcm").write_bytes(first)
    # Its first frame is the same picture; its second is nowhere else.
    (folder / "more.dcm").write_bytes(written(dataset(np.stack([one, 255 - one]), NumberOfFrames=2)))
    ran = cli("dedupe", str(folder), "--level", "near", "--action", "trash", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["groups"][0]["members"]) == 3
    assert [Path(drop["path"]).name for drop in ran.json["plan"]["drops"]] == ["b.dcm"]


def test_pages_of_dicom_pictures_say_that_they_are_no_diagnosis(tmp_path: Path, cli: Cli, photos: Path) -> None:
    folder, gallery, page = tmp_path / "scans", tmp_path / "g", tmp_path / "sheet.html"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.dcm").write_bytes(written(dataset(np.roll(RAMP, 3 * number, 0))))
    cli("index", str(folder), "-g", str(gallery))
    ran = cli("search", str(folder / "0.dcm"), "-g", str(gallery), "--html", str(page))
    assert ran.code == 0, ran.err
    assert "No diagnosis" in page.read_text()
    ran = cli("compare", str(folder / "0.dcm"), str(folder / "1.dcm"), "--explain", str(page))
    assert ran.code == 0, ran.err
    # Right below the verdict, above all pictures: nobody has to look for it.
    assert 0 < page.read_text().index("No diagnosis") < page.read_text().index("<figure>")
    cli("index", str(photos), "-g", str(tmp_path / "p"))
    query = str(next(iter(photos.iterdir())))
    for flags, said in (((), False), (("--medical",), True)):
        cli("search", query, "-g", str(tmp_path / "p"), "--html", str(page), *flags)
        assert ("No diagnosis" in page.read_text()) is said


def test_pages_of_what_was_recognized_or_inspected_say_so_too(tmp_path: Path, cli: Cli) -> None:
    folder, gallery, page, inspector = (str(tmp_path / name) for name in ("scans", "g", "page.html", "x.inspector"))
    large, files = np.kron(RAMP, np.ones((4, 4), np.uint16)), []
    for number, label in enumerate(("ill", "well")):
        files.append(tmp_path / "scans" / label / f"{number}.dcm")
        files[-1].parent.mkdir(parents=True)
        files[-1].write_bytes(written(dataset(np.roll(large, 4 * number, 0))))
    assert cli("index", folder, "-g", gallery).code == 0
    assert cli("inspect", "fit", folder, "--as", inspector).code == 0
    for command in (("recognize", str(files[0]), "-g", gallery), ("inspect", "run", inspector, str(files[0]))):
        ran = cli(*command, "--html", page)
        assert ran.code in (0, 11), ran.err
        assert "No diagnosis" in Path(page).read_text()
        Path(page).unlink()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data/dicom_samples")
def test_every_sample_is_read() -> None:
    for path in sorted(SAMPLES.iterdir()):
        image = read(path)
        assert image.format == "DICOM"
        assert image.pixels.std() > 0
