"""Scans in, results out: the same numbers by every way in."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anymc3d
import numpy as np
import pytest

nibabel: Any = pytest.importorskip("nibabel")


def answer(result: anymc3d.Result) -> tuple[list[float], list[list[float]]]:
    return [p.logit for p in result.predictions], [view.weights for view in result.views]


def test_python_and_the_program_give_the_same_bits(
    scan_path: Path, tmp_path: Path, program: Callable[..., Any], host: anymc3d.Host
) -> None:
    ran = program("run", "--plugin", "lung_nodule", "--precision", "f32", scan_path, "--out", tmp_path / "cli", "--json")
    assert ran.returncode == 0, ran.stderr
    by_program = json.loads(ran.stdout)
    result = host.run(scan_path, plugin="lung_nodule")
    mine = result.to_dict()
    for key in ("predictions", "input", "plugin", "backbone", "case"):
        assert mine[key] == by_program[key], key
    for view, other in zip(mine["views"], by_program["views"], strict=True):
        assert view == other
    result.save(tmp_path / "python")
    written = tmp_path / "cli/chest_phantom/lung_nodule"
    for name in ("heatmap.nii.gz", "preview.png"):
        assert (tmp_path / "python" / name).read_bytes() == (written / name).read_bytes(), name
    assert json.loads((tmp_path / "python/result.json").read_text())["files"] == by_program["files"]


def test_voxels_in_memory_are_the_file(scan_path: Path, host: anymc3d.Host) -> None:
    image = nibabel.load(scan_path)
    expected = answer(host.run(scan_path, plugin="lung_nodule"))
    assert answer(host.run(image, plugin="lung_nodule")) == expected
    array = np.asarray(image.dataobj)
    assert answer(host.run((array, image.affine), plugin="lung_nodule")) == expected
    # Any order of axes that the affine tells.
    turned = (np.flip(array, 0).transpose(2, 0, 1), image.affine @ _turn(array.shape[0]))
    assert answer(host.run(turned, plugin="lung_nodule")) == expected


def _turn(n: int) -> np.ndarray[Any, Any]:
    """Index of the turned array → index of the scan: (z, x', y) with x' = n - 1 - x."""
    return np.array([[0, -1, 0, n - 1], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)


def test_simpleitk_images_are_the_file(scan_path: Path, host: anymc3d.Host) -> None:
    sitk: Any = pytest.importorskip("SimpleITK")
    expected = host.run(scan_path, plugin="lung_nodule")
    result = host.run(sitk.ReadImage(str(scan_path)), plugin="lung_nodule", heatmap=False)
    assert result.heatmap is None and result.preview is None
    assert result.to_dict()["input"]["orientation"] == expected.to_dict()["input"]["orientation"]
    # ITK has the affine as direction, spacing and origin: its last bits differ, and with them where a slice is cut.
    assert result.predictions[0].logit == pytest.approx(expected.predictions[0].logit, abs=1e-3)


class MetaTensorLike:
    """What MONAI's MetaTensor is to this package; MONAI itself is not needed to test it."""

    def __init__(self, array: Any, affine: Any) -> None:
        torch: Any = pytest.importorskip("torch")
        self.tensor, self.affine, self.meta = torch.from_numpy(array), torch.from_numpy(affine), {"space": "RAS"}

    def detach(self) -> Any:
        return self.tensor


def test_a_metatensor_is_the_file(scan_path: Path, host: anymc3d.Host) -> None:
    image = nibabel.load(scan_path)
    tensor = MetaTensorLike(image.get_fdata(dtype=np.float32)[None], image.affine)
    expected = answer(host.run(scan_path, plugin="lung_nodule"))
    assert answer(host.run(tensor, plugin="lung_nodule")) == expected


def test_datasets_of_pydicom_are_their_files_and_leave_none_behind(
    scan_path: Path, host: anymc3d.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pydicom: Any = pytest.importorskip("pydicom")
    datasets = _series(pydicom, nibabel.load(scan_path))
    folder = tmp_path / "exam"
    folder.mkdir()
    for number, dataset in enumerate(datasets):
        pydicom.dcmwrite(folder / f"{number}.dcm", dataset, enforce_file_format=True)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    expected = host.run(folder, plugin="lung_nodule")
    result = host.run(datasets[::-1], plugin="lung_nodule", name="exam")
    assert answer(result) == answer(expected) and result.case == "exam"
    assert list(scratch.iterdir()) == []


def _series(pydicom: Any, image: Any) -> list[Any]:
    """Every other plane and voxel of a scan as an axial CT series."""
    array, affine = np.asarray(image.dataobj)[::2, ::2, ::2], image.affine @ np.diag([2, 2, 2, 1])
    uid = "1.2.826.0.1.3680043.8.498.77"
    all = []
    for z in range(array.shape[2]):
        dataset = pydicom.dataset.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = pydicom.uid.CTImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{z + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = f"{uid}.901", f"{uid}.902", f"{uid}.903"
        dataset.Modality, dataset.PatientID, dataset.InstanceNumber = "CT", "P1", z + 1
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
        steps = np.linalg.norm(lps[:3, :3], axis=0)
        axes = lps[:3, :3] / steps
        dataset.ImagePositionPatient = [f"{v:.4f}" for v in (lps @ [0, 0, z, 1])[:3]]
        dataset.ImageOrientationPatient = [f"{v:.6f}" for v in (*axes[:, 0], *axes[:, 1])]
        dataset.PixelSpacing = [f"{steps[1]:.4f}", f"{steps[0]:.4f}"]
        plane = np.ascontiguousarray(array[:, :, z].T.astype(np.int16))
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", "1"
        dataset.PixelData = plane.tobytes()
        all.append(dataset)
    return all


def test_heatmap_and_affine_lie_on_the_scan(scan_path: Path, host: anymc3d.Host, tmp_path: Path) -> None:
    image = nibabel.load(scan_path)
    result = host.run(scan_path, plugin="lung_nodule")
    heatmap = result.heatmap
    assert heatmap is not None and heatmap.shape == image.shape and heatmap.dtype == np.float32
    assert result.affine is not None and np.allclose(result.affine, image.affine)
    written = nibabel.load(result.save(tmp_path) / "heatmap.nii.gz")
    assert np.abs(written.get_fdata() - heatmap).max() <= written.dataobj.slope / 2 * 1.01
    # Where it looked hardest is near the nodule of the sample scan.
    mask = np.asarray(nibabel.load(scan_path.with_name("chest_phantom_mask.nii.gz")).dataobj)
    nodule = (image.affine @ [*np.argwhere(mask).mean(0), 1])[:3]
    peak = (image.affine @ [*np.unravel_index(heatmap.argmax(), heatmap.shape), 1])[:3]
    assert np.linalg.norm(nodule - peak) < 30
    assert "data:image/png;base64," in result._repr_html_()


def test_a_mask_is_there_where_it_is_asked_for(scan_path: Path, backbone: anymc3d.Backbone) -> None:
    result = anymc3d.Host(backbone, plugins=["lung_nodule"], segmentation=True).run(scan_path)
    assert result.mask is not None and set(np.unique(result.mask)) <= {0, 1}
    assert result.to_dict()["segmentation"]["voxels"] == int(result.mask.sum())


def test_a_result_says_how_far_the_case_is_from_the_training_cases(scan_path: Path, host: anymc3d.Host) -> None:
    result = host.run(scan_path, plugin="lung_nodule", heatmap=False)
    near = result.novelty
    assert isinstance(near, anymc3d.Novelty) and near.reference_cases >= 100 and near.view is None
    assert near == anymc3d.Novelty(**result.to_dict()["novelty"]) and not near.outside
    assert 0 < near.distance <= near.limit and 0 <= near.percentile <= 100
    # The same scan upside down and with its intensities mirrored is no chest any more.
    image = nibabel.load(scan_path)
    strange = host.run((-1000 - np.asarray(image.dataobj)[:, :, ::-1], image.affine), plugin="lung_nodule", heatmap=False)
    far = strange.novelty
    assert far is not None and far.outside and far.distance > far.limit and far.percentile == 100
    assert any("unlike those that the weights were trained on" in warning for warning in strange.warnings)
    assert "unlike the " in strange._repr_html_() and "unlike the " not in result._repr_html_()


def test_threads_share_a_host(scan_path: Path, host: anymc3d.Host) -> None:
    expected = {name: answer(r) for name, r in host.run_all(scan_path).items() if isinstance(r, anymc3d.Result)}
    found: list[Any] = []

    def ask(plugin: str) -> None:
        found.append((plugin, answer(host.run(scan_path, plugin=plugin))))

    threads = [threading.Thread(target=ask, args=(plugin,)) for plugin in host.plugins * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(expected[plugin] == got for plugin, got in found)


def test_the_interpreter_runs_while_the_host_computes(scan_path: Path, host: anymc3d.Host) -> None:
    counted, done = [0], threading.Event()

    def count() -> None:
        while not done.wait(0.005):
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    host.run(scan_path, plugin="lung_nodule")
    done.set()
    thread.join()
    assert counted[0] > 5


def test_a_plugin_that_panics_is_an_exception_and_the_interpreter_lives(
    scan_path: Path, tmp_path: Path, fixture_plugin: Callable[[str], Path], backbone: anymc3d.Backbone
) -> None:
    from anymc3d import _native

    library, weights = fixture_plugin("panics"), tmp_path / "w.safetensors"
    shapes = _native.parameters(str(library), backbone._native)
    head = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    anymc3d.export(adapter=None, plugin=library, head=head, out=weights, backbone=backbone)
    host = anymc3d.Host(backbone, plugins=[library], weights=weights)
    with pytest.raises(anymc3d.TaskError, match="and this plugin gives up"):
        host.run(scan_path)
    assert anymc3d.Host(backbone, plugins=["lung_nodule"]).run(scan_path).predictions


def test_errors_have_a_class_and_the_programs_words(
    scan_path: Path, tmp_path: Path, program: Callable[..., Any], host: anymc3d.Host
) -> None:
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(scan_path.read_bytes()[:100_000])
    with pytest.raises(anymc3d.ScanError) as raised:
        host.run(damaged, plugin="lung_nodule")
    assert str(raised.value) in program("run", "--plugin", "lung_nodule", damaged).stderr
    with pytest.raises(anymc3d.PluginError, match="did you mean `lung_nodule`"):
        anymc3d.Host(plugins=["lung_noddule"])
    with pytest.raises(anymc3d.UsageError, match="several plugins"):
        host.run(scan_path)
    with pytest.raises(anymc3d.UsageError, match="expected a path"):
        host.run(7, plugin="lung_nodule")
    with pytest.raises(anymc3d.ScanError, match="singular"):
        host.run((np.ones((4, 4, 4)), np.zeros((4, 4))), plugin="lung_nodule")
    with pytest.raises(anymc3d.ScanError, match="every voxel is 1"):
        host.run((np.ones((40, 40, 40)), np.eye(4)), plugin="lung_nodule")


def test_a_folder_that_cannot_be_written_to_is_an_output_error(scan_path: Path, host: anymc3d.Host, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(anymc3d.OutputError, match="file"):
        host.run(scan_path, plugin="lung_nodule").save(tmp_path / "file")
