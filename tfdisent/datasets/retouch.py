"""RETOUCH: OCT volumes of the retina with fluid, from three vendors' scanners, outlined by experts.

Cite: Bogunovic et al., "RETOUCH: the retinal OCT fluid detection and segmentation benchmark and
challenge", IEEE TMI 38, 1858 (2019), https://doi.org/10.1109/TMI.2019.2901398
Licence: by the confidentiality agreement of the challenge; no redistribution.
Get it: https://retouch.grand-challenge.org, after signing the agreement. Any tree will do in which
each volume has a folder TRAINnnn or TESTnnn (copies of one count once; two that differ are a problem), e.g.

    RETOUCH-TrainingSet-Cirrus/TRAIN001/oct.mhd oct.raw reference.mhd reference.raw ... TRAIN024
    TrainingSpectralis/RETOUCH-TrainingSet-Spectralis-Release/TRAIN025/... ... TRAIN048
    RETOUCH-TrainingSet-Topcon/TRAIN049/... ... TRAIN070
    RETOUCH-TestSet-Cirrus/TEST001/oct.mhd oct.raw ...      without reference, optional

The vendor, which is the domain, is in a folder's name, or else follows from the number. A slice is a B-scan (depth,
width); its spacing, as everything else, is that of the header. Cirrus and Topcon are 8-bit, Spectralis 16-bit: those
are divided by 257, so that all lie in 0 to 255, and stored as float32. `intensity` has each volume's own statistics
over what is not blank, by which `load` normalises.

Masks: 0 none, 1 IRF (intraretinal fluid), 2 SRF (subretinal fluid), 3 PED (pigment epithelium detachment).

Ren et al. (IEEE TMI 2021, "Segmentation-renormalized deep feature modulation for unpaired image harmonization")
resample by nearest neighbours to the size of Spectralis' B-scans, 496 x 512, split 70/30 by subject, and cut random 256
x 256 crops while training. TEST volumes become a split `unlabelled`.
"""

import dataclasses
import pathlib
import re

import numpy as np

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.sources import files_under, one_of_copies
from tfdisent.datasets.volumes import Scans, Session, VolumeBuilder
from tfdisent.volumes import Volume, preprocess, read_metaimage

VENDORS = ("Cirrus", "Spectralis", "Topcon")
_CASE = re.compile(r"(TRAIN|TEST)(\d+)", re.IGNORECASE)
# The last number of each vendor, in the order of VENDORS.
_LAST_NUMBERS = {"TRAIN": (24, 48, 70), "TEST": (14, 28, 42)}


@dataclasses.dataclass(frozen=True)
class RETOUCH(VolumeBuilder):
    """RETOUCH as B-scans.

    Args:
        size: height and width of the B-scans.
        resample: how B-scans are brought to this size: "nearest" as in the paper, "linear" (masks by nearest
            neighbours), or "none" to crop or pad.
        vendors: whose scans, some of `VENDORS`.

    The other options are those of `VolumeBuilder`; fractions of the splits hold for each vendor.
    """

    name = "retouch"
    raw_help = (
        "Get it from https://retouch.grand-challenge.org (after signing its agreement). The folder must hold "
        "TRAINnnn/oct.mhd, oct.raw, reference.mhd and reference.raw, in any tree."
    )

    size: str = "496x512"
    resample: str = "nearest"
    vendors: tuple[str, ...] = VENDORS
    dtype: str = "float32"
    modalities: tuple[str, ...] = ("OCT",)
    mask_labels: tuple[str, ...] = ("background", "IRF", "SRF", "PED")
    test_fraction: float = 0.3

    def __post_init__(self):
        super().__post_init__()
        if self.resample not in ("nearest", "linear", "none"):
            raise ValueError(f"Expected resample to be one of nearest, linear, none, received {self.resample!r}.")
        if not self.size:
            raise ValueError("retouch: expected a size like 496x512, received none.")
        if not self.vendors or set(self.vendors) - set(VENDORS):
            raise ValueError(f"Expected vendors to be some of {', '.join(VENDORS)}, received {self.vendors}.")

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        return self.manifest(
            self.units(raw_dir),
            description="RETOUCH: OCT of the retina with intraretinal fluid, subretinal fluid and pigment epithelium "
            "detachment",
            homepage="https://retouch.grand-challenge.org",
            citation="Bogunovic et al., IEEE TMI 38, 1858 (2019), https://doi.org/10.1109/TMI.2019.2901398",
            licence="confidentiality agreement of the challenge; no redistribution",
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        units = self.units(raw_dir)
        unlabelled = [unit for unit in units if unit.key.startswith("TEST")]
        splits = self.seeded_splits([unit for unit in units if unit.key.startswith("TRAIN")], by_domain=True)
        return {**splits, "unlabelled": unlabelled} if unlabelled else splits

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        found: dict[str, dict[str, list[pathlib.Path]]] = {}
        for path in files_under(raw_dir):
            role = path.name.lower().removesuffix(".mhd")
            if _CASE.fullmatch(path.parent.name) and role in ("oct", "reference") and role != path.name.lower():
                found.setdefault(path.parent.name.upper(), {}).setdefault(role, []).append(path)
        units = []
        for key, roles in found.items():
            if "oct" not in roles:
                continue
            path, problem = one_of_copies(roles["oct"])
            match = _CASE.fullmatch(key)
            vendor = _vendor(raw_dir, pathlib.Path(path), match)
            if vendor not in self.vendors:
                continue
            reference = ""
            if "reference" in roles:
                reference, differ = one_of_copies(roles["reference"])
                problem = problem or differ
            elif match[1] == "TRAIN":
                problem = f"{path} has no reference.mhd beside it; get it again"
            scans = Scans({"OCT": path}, reference, domain=vendor)
            units.append(Unit(key, key, scans, vendor, problem, modalities=("OCT",)))
        return units

    def load(self, scans: Scans) -> Session:
        path = scans.images["OCT"]
        volume = read_metaimage(path, max_gigabytes=self.max_gigabytes)
        if volume.array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"{path} holds {volume.array.dtype}, expected MET_UCHAR or MET_USHORT. Get it again.")
        mask = None
        if scans.mask:
            # Its shape counts; its header need not repeat the scanner's spacing.
            codes = read_metaimage(scans.mask, max_gigabytes=self.max_gigabytes).array
            if codes.shape != volume.array.shape:
                raise ValueError(
                    f"{scans.mask} is of shape {codes.shape}, its volume {path} of {volume.array.shape} (B-scans, "
                    "depth, width). Get both again."
                )
            ids = self.mask_ids(scans.mask, codes)
            mask = self._resized(volume._replace(array=ids), labels=True).array
        array = volume.array.astype(np.float32)
        if volume.array.dtype == np.uint16:
            array /= 257
        volume = self._resized(volume._replace(array=array), labels=self.resample == "nearest")
        if not self.dtype.startswith("float"):
            volume = volume._replace(array=np.rint(volume.array))
        return Session({"OCT": volume}, mask, None)

    def _resized(self, volume: Volume, labels: bool) -> Volume:
        if self.resample == "none":
            return volume
        old, new = volume.array.shape[1:], [int(number) for number in self.size.split("x")]
        height, width = volume.spacing[:2] * np.array(old) / (new[0], new[-1])
        return preprocess.resample(volume, (height, width, 0), labels=labels, margin=1e-5)


def _vendor(raw_dir: pathlib.Path, path: pathlib.Path, match: re.Match) -> str:
    for folder in reversed(path.relative_to(raw_dir).parts[:-2]):
        for vendor in VENDORS:
            if vendor.lower() in folder.lower():
                return vendor
    last_numbers = _LAST_NUMBERS[match[1].upper()]
    return VENDORS[min(int(np.searchsorted(last_numbers, int(match[2]))), len(VENDORS) - 1)]
