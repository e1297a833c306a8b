"""Ouyang et al.: Representation disentanglement for multi-modal brain MRI analysis.

Rows and digits of the tables are as printed. "CondConv+Sim" is the system, "Conv" has encoders of its own for each
modality, "NA" neither a similarity loss nor a discriminator, "Adv" a discriminator of anatomies. "Ours" and what it is
held against in Table 2 are networks downstream of one run of the system. ZeroDose and NCANDA have no builder here;
phantoms with their modalities stand for them.
"""

from tfdisent.papers.paper import Figure, Paper, Row, transcribed

_COMPARED = ("conv_na", "conv_adv", "conv_sim")
_TARGETS = "Each target is the mean over the other modalities as sources of anatomy."


def _by_target(*names: str) -> tuple[str, ...]:
    return tuple(f"{metric}/{name}" for name in names for metric in ("psnr", "ssim"))


def _by_missing(metrics: tuple[str, ...], *names: str) -> tuple[str, ...]:
    given = ("all_inputs", *(f"missing_{name}" for name in names))
    return tuple(f"{metric}_{one}" for one in given for metric in metrics)


_DICE, _PET = _by_missing(("dice",), "T1", "T1ce", "T2", "FLAIR"), _by_missing(("pet_psnr", "pet_ssim"), "T1", "FLAIR")

PAPER = Paper(
    name="margin",
    title="Representation disentanglement for multi-modal brain MRI analysis",
    citation="J. Ouyang et al., IPMI 2021",
    url="https://github.com/ouyangjiahong/representation-disentanglement",
    data={
        "brats": "BraTS 2020",
        "brain_phantom": "BraTS 2020",
        "pet_phantom": "ZeroDose",
        "healthy_phantom": "NCANDA",
    },
    phantoms={"BraTS 2020": "brain_phantom", "ZeroDose": "pet_phantom", "NCANDA": "healthy_phantom"},
    tables={
        1: (
            transcribed(
                "Table 1a",
                "ZeroDose",
                _by_target("T1", "FLAIR"),
                """
                Conv+NA        25.603  0.682  24.435  0.612
                Conv+Adv       27.131  0.742  25.846  0.674
                Conv+Sim       27.222  0.735  25.970  0.667
                CondConv+Sim   27.231  0.742  25.978  0.681
                """,
                _TARGETS,
            ),
            transcribed(
                "Table 1b",
                "NCANDA",
                _by_target("T1", "T2"),
                """
                Conv+NA        29.719  0.849  28.077  0.808
                Conv+Adv       30.421  0.866  27.950  0.807
                Conv+Sim       30.266  0.863  28.367  0.825
                CondConv+Sim   30.331  0.865  28.451  0.832
                """,
                _TARGETS,
            ),
            transcribed(
                "Table 1c",
                "BraTS 2020",
                _by_target("T1", "T1ce", "T2", "FLAIR"),
                """
                Conv+NA        27.304  0.717  24.897  0.638  25.148  0.621  25.166  0.617
                Conv+Adv       27.485  0.717  25.385  0.656  25.951  0.658  26.135  0.642
                Conv+Sim       27.892  0.756  26.114  0.723  26.479  0.744  26.588  0.692
                CondConv+Sim   27.916  0.752  26.221  0.731  26.445  0.735  26.489  0.687
                """,
                _TARGETS,
            ),
        ),
        2: (
            transcribed(
                "Table 2, left",
                "ZeroDose",
                _PET,
                """
                Standard+Zero  –       –      18.122  0.436  18.8863  0.435
                Standard+Avg   25.475  0.739  24.425  0.676  23.137   0.631
                Ours           25.386  0.729  24.610  0.682  24.193   0.674
                """,
                "PET is drawn from T1 and FLAIR.",
            ),
            transcribed(
                "Table 2, right",
                "BraTS 2020",
                _DICE,
                """
                Standard+Zero  –      0.364  0.240  0.616  0.298
                Standard+Avg   0.826  0.724  0.279  0.733  0.452
                Ours           0.821  0.782  0.779  0.758  0.772
                """,
                "Mean over enhancing tumour, oedema, and necrosis with non-enhancing tumour.",
            ),
        ),
    },
    figures={
        2: Figure(("NCANDA",), _COMPARED, "Anatomy by modality"),
        3: Figure(("BraTS 2020",), _COMPARED, "Codes in the plane"),
        4: Figure(("BraTS 2020",), _COMPARED, "Cross reconstruction"),
        5: Figure(("ZeroDose",), ("margin",), "PET with inputs missing"),
    },
    rows={
        "Conv+NA": Row(("conv_na",)),
        "Conv+Adv": Row(("conv_adv",)),
        "Conv+Sim": Row(("conv_sim",)),
        "CondConv+Sim": Row(("margin",)),
        "Standard+Zero": Row(("margin",), "_zero", "images, 0 for missing ones"),
        "Standard+Avg": Row(("margin",), "_avg", "images, means for missing ones"),
        "Ours": Row(("margin",)),
    },
    also={
        **{f"psnr/{name}": ("psnr_brain", "PSNR in the brain") for name in ("T2", "FLAIR")},
        **{f"ssim/{name}": ("ssim_brain", "SSIM in the brain") for name in ("T2", "FLAIR")},
    },
    protocols={
        "psnr": "5-fold cross-validation; the range is that of each target slice, background included",
        "ssim": "5-fold cross-validation; scikit-image's defaults, background included, by the public code",
        **dict.fromkeys(_DICE, "5-fold cross-validation; NVNet, whether in two dimensions or three is not stated"),
        **dict.fromkeys(_PET, "5-fold cross-validation; region and range are not stated"),
    },
    notes=(
        "The public code measures the first slice of a stack and not the centre one, with a background of -10, which "
        "widens the range of a slice and so raises PSNR.",
        "Errors and likeness can be compared only when data, image size, range and region are the same.",
    ),
)
