"""Ren et al.: Segmentation-renormalized deep feature modulation for unpaired image harmonization.

Rows and digits of the tables are as printed. "Ours" is the system, [8] CycleGAN, [15] S-CycleGAN and [16] SemGAN;
"Source, Target" are distances without harmonisation. MS-SEG has three directions between Siemens Aera (SA), Siemens
Verio (SV) and Philips Ingenia (PI), each cross-validated by leaving one of five subjects of each scanner out; SemGAN,
whose dropout the sparse lesions do not allow, has no numbers there.
"""

from tfdisent.papers.paper import Figure, Paper, Row, Variant, transcribed

_COMPARED = ("cyclegan", "s_cyclegan", "semgan", "harmonize")
_TISSUES = tuple(f"{metric}/{name}" for name in ("CSF", "GM", "WM") for metric in ("dice", "iou"))
_LESIONS = ("dice/lesion", "iou/lesion")
_SCANNERS = {"SA": "Siemens Aera", "SV": "Siemens Verio", "PI": "Philips Ingenia"}
_DIRECTIONS = {f"MS-SEG, {one} to {other}": (one, other) for one, other in (("SA", "SV"), ("SA", "PI"), ("SV", "PI"))}
_MSSEG = "Mean over five folds. The paper registers to MNI; here slices are resampled to 1 mm. Lesions by consensus."
_FLUIDS = tuple(f"{metric}/{name}" for name in ("IRF", "SRF", "PED") for metric in ("dice", "iou"))

PAPER = Paper(
    name="harmonize",
    title="Segmentation-renormalized deep feature modulation for unpaired image harmonization",
    citation="M. Ren et al., IEEE TMI 2021",
    url="https://arxiv.org/abs/2102.06315",
    data={"ixi": "IXI", "brain_phantom": "IXI", "retouch": "RETOUCH", "retina_phantom": "RETOUCH"},
    phantoms={"IXI": "brain_phantom", "RETOUCH": "retina_phantom"},
    tables={
        4: (
            transcribed(
                "Table IV",
                "IXI",
                ("kernel_distance", "frechet_distance"),
                """
                Source, Target  1.140 ± 0.004    385.03
                Harmonized, Target [8]   0.009 ± 0.0002   54.9
                Harmonized, Target [15]  0.013 ± 0.0004   4.66
                Harmonized, Target [16]  0.014 ± 0.0005   5.02
                Harmonized, Target (Ours)  0.010 ± 0.0002   3.32
                """,
                "Printed with exponents, as 2e-4. KID does not tell the methods apart here.",
            ),
            transcribed(
                "Table IV",
                "RETOUCH",
                ("kernel_distance",),
                """
                Source, Target  4.65 ± 0.000001
                Harmonized, Target [8]   1.81 ± 0.000001
                Harmonized, Target [15]  2.56 ± 0.000001
                Harmonized, Target [16]  1.87 ± 0.000001
                Harmonized, Target (Ours)  0.83 ± 0.000001
                """,
            ),
            transcribed(
                "Table IV",
                "MS-SEG, SA to SV",
                ("kernel_distance",),
                """
                Source, Target  2.37 ± 0.17
                Harmonized, Target [8]  1.28 ± 0.01
                Harmonized, Target [15]  2.67 ± 0.25
                Harmonized, Target (Ours)  0.48 ± 0.02
                """,
                _MSSEG,
            ),
            transcribed(
                "Table IV",
                "MS-SEG, SA to PI",
                ("kernel_distance",),
                """
                Source, Target  0.370 ± 0.0007
                Harmonized, Target [8]  0.034 ± 0.0005
                Harmonized, Target [15]  0.024 ± 0.0003
                Harmonized, Target (Ours)  0.024 ± 0.0003
                """,
                _MSSEG,
            ),
            transcribed(
                "Table IV",
                "MS-SEG, SV to PI",
                ("kernel_distance",),
                """
                Source, Target  3.09 ± 0.01
                Harmonized, Target [8]  0.18 ± 0.003
                Harmonized, Target [15]  0.87 ± 0.02
                Harmonized, Target (Ours)  0.05 ± 0.003
                """,
                _MSSEG,
            ),
        ),
        5: (
            transcribed(
                "Table V",
                "IXI",
                _TISSUES,
                """
                Source Segmentor, Source Image  0.90  0.83  0.91  0.83  0.88  0.81
                Target Segmentor, Target Image  0.90  0.83  0.89  0.82  0.88  0.81
                Target Segmentor, Source Image  0.85  0.75  0.82  0.72  0.77  0.70
                Target Segmentor, Harmonized [8]  0.79  0.66  0.77  0.64  0.73  0.64
                Target Segmentor, Harmonized [15]  0.61  0.46  0.64  0.48  0.71  0.61
                Target Segmentor, Harmonized [16]  0.80  0.68  0.76  0.64  0.72  0.64
                Target Segmentor, Harmonized (Ours)  0.85  0.75  0.84  0.74  0.81  0.73
                """,
                "CycleGAN and its kin are worse than doing nothing.",
            ),
            transcribed(
                "Table V",
                "RETOUCH",
                _FLUIDS,
                """
                Source Segmentor, Source Image  0.71  0.55  0.54  0.42  0.55  0.40
                Target Segmentor, Target Image  0.72  0.56  0.70  0.54  0.11  0.06
                Target Segmentor, Source Image  0.63  0.47  0.54  0.41  0.34  0.24
                Target Segmentor, Harmonized [8]  0.58  0.41  0.57  0.43  0.51  0.40
                Target Segmentor, Harmonized [15]  0.59  0.42  0.56  0.43  0.51  0.40
                Target Segmentor, Harmonized [16]  0.58  0.42  0.55  0.42  0.51  0.41
                Target Segmentor, Harmonized (Ours)  0.67  0.51  0.62  0.48  0.52  0.43
                """,
            ),
            transcribed(
                "Table V",
                "MS-SEG, SA to SV",
                _LESIONS,
                """
                Source Segmentor, Source Image  0.53  0.39
                Target Segmentor, Target Image  0.60  0.45
                Target Segmentor, Source Image  0.37  0.26
                Target Segmentor, Harmonized [8]  0.42  0.30
                Target Segmentor, Harmonized [15]  0.40  0.29
                Target Segmentor, Harmonized (Ours)  0.50  0.38
                """,
                _MSSEG,
            ),
            transcribed(
                "Table V",
                "MS-SEG, SA to PI",
                _LESIONS,
                """
                Source Segmentor, Source Image  0.53  0.39
                Target Segmentor, Target Image  0.57  0.41
                Target Segmentor, Source Image  0.33  0.23
                Target Segmentor, Harmonized [8]  0.31  0.19
                Target Segmentor, Harmonized [15]  0.39  0.28
                Target Segmentor, Harmonized (Ours)  0.49  0.35
                """,
                _MSSEG,
            ),
            transcribed(
                "Table V",
                "MS-SEG, SV to PI",
                _LESIONS,
                """
                Source Segmentor, Source Image  0.60  0.45
                Target Segmentor, Target Image  0.57  0.41
                Target Segmentor, Source Image  0.43  0.30
                Target Segmentor, Harmonized [8]  0.26  0.18
                Target Segmentor, Harmonized [15]  0.22  0.15
                Target Segmentor, Harmonized (Ours)  0.51  0.37
                """,
                _MSSEG,
            ),
        ),
    },
    figures={
        6: Figure(tuple(_DIRECTIONS), ("cyclegan", "s_cyclegan", "harmonize"), "Harmonised slices"),
        7: Figure(("RETOUCH",), _COMPARED, "Harmonised slices"),
        8: Figure(("IXI",), _COMPARED, "Harmonised slices"),
        9: Figure(("IXI", "RETOUCH"), _COMPARED, "Noise on what was made"),
    },
    rows={
        "Source, Target": Row(("harmonize",), "_source", "Source, not harmonised"),
        "Harmonized, Target [8]": Row(("cyclegan",)),
        "Harmonized, Target [15]": Row(("s_cyclegan",)),
        "Harmonized, Target [16]": Row(("semgan",)),
        "Harmonized, Target (Ours)": Row(("harmonize",)),
        "Source Segmentor, Source Image": Row(("harmonize",), "_source_on_source", "Source's segmentor, source scans"),
        "Target Segmentor, Target Image": Row(("harmonize",), "_target_on_target", "Target's segmentor, target scans"),
        "Target Segmentor, Source Image": Row(("harmonize",), "_target_on_source", "Target's segmentor, source scans"),
        "Target Segmentor, Harmonized [8]": Row(("cyclegan",)),
        "Target Segmentor, Harmonized [15]": Row(("s_cyclegan",)),
        "Target Segmentor, Harmonized [16]": Row(("semgan",)),
        "Target Segmentor, Harmonized (Ours)": Row(("harmonize",)),
    },
    also={"kernel_distance": ("kernel_distance_floor", "KID of target slices, its floor")},
    protocols={
        "kernel_distance": "on features of its own autoencoder; subsets and their sizes are not stated",
        "frechet_distance": "on features of its own autoencoder",
        "dice": "whether a mean over slices or scans, and what empty ones count, is not stated",
        "iou": "as Dice",
    },
    notes=(
        "Distances depend on the autoencoder: only those of one evaluation can be compared.",
        "A phantom's labels csf, grey and white stand for the paper's CSF, GM and WM, and have no row of its tables.",
    ),
    variants={
        f"msseg_{one.lower()}_{other.lower()}": Variant(
            "msseg", data, {"source": _SCANNERS[one], "target": _SCANNERS[other]}, folds=5
        )
        for data, (one, other) in _DIRECTIONS.items()
    },
)
