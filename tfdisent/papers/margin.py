"""Ouyang et al.: Representation disentanglement for multi-modal brain MRI analysis.

Rows and digits of the tables are as printed. "CondConv+Sim" is the system, "Conv" has encoders of its own for each
modality, "NA" neither a similarity loss nor a discriminator, "Adv" a discriminator of anatomies. Tables 1a and 1b are
of data that are not public or have no builder here, and Table 2 is of downstream tasks that are not built: they are
left out.
"""

from tfdisent.papers.paper import Figure, Paper, Row, transcribed

_BRATS = tuple(f"{metric}/{name}" for name in ("T1", "T1ce", "T2", "FLAIR") for metric in ("psnr", "ssim"))
_COMPARED = ("conv_na", "conv_adv", "conv_sim")

PAPER = Paper(
    name="margin",
    title="Representation disentanglement for multi-modal brain MRI analysis",
    citation="J. Ouyang et al., IPMI 2021",
    url="https://github.com/ouyangjiahong/representation-disentanglement",
    data={"brats": "BraTS 2020", "brain_phantom": "BraTS 2020"},
    phantoms={"BraTS 2020": "brain_phantom"},
    tables={
        1: (
            transcribed(
                "Table 1c",
                "BraTS 2020",
                _BRATS,
                """
                Conv+NA        27.304  0.717  24.897  0.638  25.148  0.621  25.166  0.617
                Conv+Adv       27.485  0.717  25.385  0.656  25.951  0.658  26.135  0.642
                Conv+Sim       27.892  0.756  26.114  0.723  26.479  0.744  26.588  0.692
                CondConv+Sim   27.916  0.752  26.221  0.731  26.445  0.735  26.489  0.687
                """,
                "Each target is the mean over the other modalities as sources of anatomy.",
            ),
        ),
    },
    figures={
        2: Figure(("BraTS 2020",), _COMPARED, "Anatomy by modality"),
        3: Figure(("BraTS 2020",), _COMPARED, "Codes in the plane"),
        4: Figure(("BraTS 2020",), _COMPARED, "Cross reconstruction"),
    },
    rows={
        "Conv+NA": Row(("conv_na",)),
        "Conv+Adv": Row(("conv_adv",)),
        "Conv+Sim": Row(("conv_sim",)),
        "CondConv+Sim": Row(("margin",)),
    },
    also={
        "psnr/FLAIR": ("psnr_brain", "PSNR in the brain"),
        "ssim/FLAIR": ("ssim_brain", "SSIM in the brain"),
    },
    protocols={
        "psnr": "5-fold cross-validation; the range is that of each target slice, background included",
        "ssim": "5-fold cross-validation; scikit-image's defaults, background included, by the public code",
    },
    notes=(
        "The public code measures the first slice of a stack and not the centre one, with a background of -10, which "
        "widens the range of a slice and so raises PSNR.",
        "Errors and likeness can be compared only when data, image size, range and region are the same.",
    ),
)
