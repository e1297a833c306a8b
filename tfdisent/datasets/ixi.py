"""IXI: nearly 600 healthy heads from three hospitals of London, MR images T1, T2 and PD.

Cite: "IXI Dataset", https://brain-development.org/ixi-dataset (Imperial College London).
Licence: CC BY-SA 3.0.
Get it: https://brain-development.org/ixi-dataset, the archives IXI-T1.tar, IXI-T2.tar, IXI-PD.tar.
Unpack them anywhere in one folder:

    IXI002-Guys-0828-T1.nii.gz          IXI<subject>-<site>-<number>-<modality>.nii.gz
    IXI012-HH-1211-T1.nii.gz            in any folders; of other files only the suffixes below
    ...
    IXI012-HH-1211-T1_brain.nii.gz      skull-stripped, e.g. by ROBEX:     --image_suffix=_brain
    IXI012-HH-1211-T1_pveseg.nii.gz     tissues, e.g. by FSL FAST:         --mask_suffix=_pveseg
      or IXI012-HH-1211-T1_brain_pveseg.nii.gz

Two files of one name, in two folders or as .nii and .nii.gz, are a problem.

Sites are domains: Guys (Philips Intera 1.5 T), HH (Hammersmith, Philips 3 T), IOP (Institute of Psychiatry, GE 1.5 T).
T1 is stored in sagittal order; here all slices are axial, whatever the file's order. T1, T2 and PD of a subject lie on
different grids, so that one is chosen.

Ren et al. (TMI, harmonisation) take T1 of HH and IOP, stripped by ROBEX and bias-corrected (N4), and
as labels the tissues of FAST (1 CSF, 2 grey, 3 white matter); 70 % of the subjects train. 18 scans of
HH that they left out by eye have no published list. Without those programs, --approximate=true makes
a rough brain mask and tissues by intensity (`tfdisent.volumes.preprocess`): to try things out, not for
results.
"""

import dataclasses
import pathlib
import re

from tfdisent.data.records import Manifest
from tfdisent.datasets.builder import Unit
from tfdisent.datasets.sources import files_under, one_of_each
from tfdisent.datasets.volumes import Scans, Session, VolumeBuilder
from tfdisent.volumes import preprocess

SITES = ("Guys", "HH", "IOP")
MODALITIES = ("T1", "T2", "PD")
_FILE = re.compile(
    rf"((IXI\d{{3}})-({'|'.join(SITES)})-\d{{4}})-({'|'.join(MODALITIES)})(|[^.]*[^.\d-][^.]*)\.nii(\.gz)?"
)


@dataclasses.dataclass(frozen=True)
class IXI(VolumeBuilder):
    """IXI, one modality; the other options are those of `VolumeBuilder`.

    Args:
        modality: "T1", "T2" or "PD".
        sites: which ones; by default those of Ren et al.
        image_suffix: of images made by other programs ("_brain" for IXI...-T1_brain.nii.gz); empty: the images as
            downloaded.
        mask_suffix: of tissue label maps, which may follow the image's; empty: none.
        approximate: make an approximate brain mask and tissue map.
    """

    name = "ixi"
    raw_help = (
        "Get IXI-T1.tar from https://brain-development.org/ixi-dataset (CC BY-SA 3.0) and unpack it. The folder must "
        "hold files like IXI012-HH-1211-T1.nii.gz; tfdisent/datasets/ixi.py says what else is read."
    )

    modality: str = "T1"
    sites: tuple[str, ...] = ("HH", "IOP")
    image_suffix: str = ""
    mask_suffix: str = ""
    approximate: bool = False
    size: str = "256x256"
    pixel_spacing: float = 1.0
    min_foreground: int = 1000
    n4: int = 4
    test_fraction: float = 0.3

    def __post_init__(self):
        if self.mask_suffix and self.approximate:
            raise ValueError("Use mask_suffix or approximate, which makes masks, and not both.")
        if self.modality not in MODALITIES:
            raise ValueError(f"Expected modality to be one of {', '.join(MODALITIES)}, received {self.modality!r}.")
        if self.approximate and self.modality == "PD":
            raise ValueError("approximate segments T1 and T2, not PD.")
        if unknown := sorted(set(self.sites) - set(SITES)):
            raise ValueError(f"ixi has no site {unknown[0]!r}, but {', '.join(SITES)}.")
        object.__setattr__(self, "modalities", (self.modality,))
        if (self.mask_suffix or self.approximate) and not self.mask_labels:
            object.__setattr__(self, "mask_labels", preprocess.TISSUES)
        if not self.image_suffix and not self.approximate:  # the head as scanned
            object.__setattr__(self, "foreground", "otsu")
        super().__post_init__()

    def info(self, raw_dir: pathlib.Path) -> Manifest:
        made = "; brain masks and tissues are rough approximations" if self.approximate else ""
        return self.manifest(
            self.units(raw_dir),
            description=f"IXI: axial slices of {self.modality} of healthy heads by site{made}.",
            homepage="https://brain-development.org/ixi-dataset",
            citation="IXI Dataset, https://brain-development.org/ixi-dataset",
            licence="CC BY-SA 3.0",
        )

    def splits(self, raw_dir: pathlib.Path) -> dict[str, list[Unit]]:
        return self.seeded_splits(self.units(raw_dir), by_domain=True)

    def index(self, raw_dir: pathlib.Path) -> list[Unit]:
        found: dict[tuple[str, str, str], dict[str, list[pathlib.Path]]] = {}
        for path in files_under(raw_dir):
            match = _FILE.fullmatch(path.name)
            if match and match[4] == self.modality and match[3] in self.sites:
                found.setdefault((match[1], match[2], match[3]), {}).setdefault(match[5], []).append(path)
        units = []
        mask_suffixes = (self.image_suffix + self.mask_suffix, self.mask_suffix) if self.mask_suffix else ()
        for (scan, subject, site), paths in sorted(found.items()):
            wanted = dict.fromkeys((self.image_suffix, *mask_suffixes))
            scan_name = f"{scan}-{self.modality}"
            _, problem = one_of_each(
                scan_name, {scan_name + suffix: paths[suffix] for suffix in wanted if suffix in paths}
            )
            files = {suffix: str(min(of_suffix)) for suffix, of_suffix in paths.items()}
            mask = next((files[suffix] for suffix in mask_suffixes if suffix in files), "")
            if self.mask_suffix and not mask:
                problem = (
                    f"{scan}-{self.modality} has no {self.mask_suffix}.nii.gz beside {next(iter(files.values()))}. "
                    "Make it, or leave out mask_suffix."
                )
            if self.image_suffix not in files:
                problem = (
                    f"{scan}-{self.modality}{self.image_suffix}.nii.gz is missing beside {next(iter(files.values()))}. "
                    "Make it, or change image_suffix."
                )
            scans = Scans({self.modality: files.get(self.image_suffix, "")}, mask, domain=site)
            units.append(Unit(scan, subject, scans, site, problem))
        return units

    def bias_corrected(self, session: Session, scans: Scans) -> Session:
        if not self.approximate:
            return super().bias_corrected(session, scans)
        brain = preprocess.skull_strip_approximation(session.images[self.modality])
        if not brain.any():
            raise ValueError(f"{scans.images[self.modality]}: no brain was found in it.")
        session = super().bias_corrected(session._replace(brain=brain), scans)
        tissues = preprocess.tissue_segmentation_approximation(
            session.images[self.modality], brain, contrast=self.modality
        )
        return session._replace(mask=tissues)
