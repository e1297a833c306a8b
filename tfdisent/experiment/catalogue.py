"""What belongs to a system, by its name: data, methods, evaluation and paper; modules are imported when asked for."""

import importlib
from typing import Any

from tfdisent import papers

# System -> data sets that can serve it; the first is that of a first run, and is made by itself.
DATA = {
    "drai": ("skin_phantom", "nodule_phantom", "ham10000", "lidc", "lidc_patches"),
    "unified": ("brain_phantom", "brats", "manifest", "bids"),
    "margin": ("brain_phantom", "pet_phantom", "healthy_phantom", "brats", "manifest", "bids"),
    "harmonize": ("brain_phantom", "retina_phantom", "ixi", "msseg", "retouch", "manifest", "bids"),
    "mmsdnet": ("abdomen_phantom", "cardiac_phantom", "chaos", "manifest"),
}
SYSTEMS = tuple(DATA)
# Data set -> what it is.
ABOUT = {
    "abdomen_phantom": "drawn: T1 and T2-SPIR of the abdomen with organs, misaligned",
    "bids": "your own: a BIDS folder (T1w, T2w, FLAIR, T1 with contrast, PET)",
    "brain_phantom": "drawn: MR contrasts and FDG-PET of brains with tumours or lesions, on several scanners",
    "brats": "brain tumours in four MR contrasts; BraTS 2018, 2020 and later namings",
    "cardiac_phantom": "drawn: cine and late enhancement of the heart, misaligned",
    "chaos": "abdominal T1 in and out of phase and T2-SPIR, DICOM",
    "ham10000": "10,015 dermatoscopic photographs of skin lesions",
    "healthy_phantom": "drawn: T1 and T2 of healthy brains",
    "ixi": "healthy brains in T1, T2 or PD from three sites",
    "lidc": "lung nodules of LIDC-IDRI, DICOM and XML",
    "lidc_patches": "lung nodules of LIDC-IDRI as patches with a table",
    "manifest": "your own: a table of subject, modality, image and what else you know",
    "msseg": "MSSEG 2016: multiple sclerosis on several scanners",
    "nodule_phantom": "drawn: CT patches of lung nodules",
    "pet_phantom": "drawn: T1 and FLAIR of brains with a tumour, and FDG-PET to be drawn from them",
    "retina_phantom": "drawn: OCT of the macula with fluid, by two vendors",
    "retouch": "OCT of the macula with fluid, by three vendors",
    "skin_phantom": "drawn: dermatoscopic images of skin lesions of three classes",
}


def check_system(name: str) -> str:
    """Returns the name if it is a system's; else raises a ValueError that lists the systems."""
    if name not in SYSTEMS:
        raise ValueError(f"Expected a system of {', '.join(SYSTEMS)}; received {name!r}.")
    return name


def methods(system: str) -> tuple:
    """The system and what its paper compares it with, as `tfdisent.baselines.method.Method`; the system is first."""
    return importlib.import_module(f"tfdisent.baselines.{check_system(system)}").METHODS


def method(system: str, name: str) -> Any:
    """The method of this name. Raises a ValueError that lists the names there are."""
    return importlib.import_module("tfdisent.baselines.method").method(methods(system), name)


def evaluation(system: str) -> Any:
    """How the system is measured, a `tfdisent.evaluation.protocol.Evaluation`."""
    return importlib.import_module(f"tfdisent.evaluation.{check_system(system)}").EVALUATION


def paper(system: str) -> papers.Paper:
    """What the system's paper reports."""
    return papers.paper_of(check_system(system))


def about(datasets: tuple[str, ...] | None = None) -> str:
    """A line for each of the data sets, by default all."""
    return "\n".join(f"{name:<16} {ABOUT[name]}" for name in datasets or ABOUT)
