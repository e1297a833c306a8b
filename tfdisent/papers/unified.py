"""Liu et al.: A unified conditional disentanglement framework for multimodal brain MR image translation.

Rows and digits of the tables are as printed. "Proposed" is the unified framework, "Proposed - disen" the same without
Eq. 5. 12xPix2Pix is a network for each ordered pair of modalities, 4xTCMGAN one for each source modality.
"""

from tfdisent.papers.paper import Figure, Paper, Row, transcribed

_TCMGANS = ("tcmgan_T1", "tcmgan_T1ce", "tcmgan_T2", "tcmgan_FLAIR")

PAPER = Paper(
    name="unified",
    title="A unified conditional disentanglement framework for multimodal brain MR image translation",
    citation="X. Liu et al., ISBI 2021",
    url="https://arxiv.org/abs/2101.05434",
    data={"brats": "BraTS'18", "brain_phantom": "BraTS'18"},
    phantoms={"BraTS'18": "brain_phantom"},
    tables={
        1: (
            transcribed(
                "Table 1",
                "BraTS'18",
                ("absolute_error_sum", "ssim", "psnr", "inception_score"),
                """
                12xPix2Pix        171.3 ± 0.4   0.9206 ± 0.0013   24.12 ± 0.02   15.65 ± 0.16
                4xTCMGAN          –             –                 –              –
                Proposed - disen  159.8 ± 0.3   0.9594 ± 0.0016   25.21 ± 0.02   18.10 ± 0.13
                Proposed          157.2 ± 0.2   0.9625 ± 0.0012   25.92 ± 0.01   18.54 ± 0.15
                """,
                "The paper does not say what its L1 sums; its size fits a sum over the 128 x 128 pixels of a slice in "
                "[0, 1]. The numbers of 4xTCMGAN are not legible in the copy that was transcribed.",
            ),
        ),
        2: (
            transcribed(
                "Table 2",
                "BraTS'18",
                ("dice",),
                """
                12xPix2Pix            0.7436 ± 0.0017
                4xTCMGAN              0.7673 ± 0.0014
                Proposed - disen      0.7791 ± 0.0013
                Proposed              0.7862 ± 0.0015
                Original 4 modalities  0.8142 ± 0.0012
                """,
                "From one real slice of any modality and three synthesised ones. From one real T2 slice alone: 0.7404.",
            ),
        ),
    },
    figures={
        2: Figure(("BraTS'18",), ("unified",), "Every modality from every other"),
        3: Figure(("BraTS'18",), ("pix2pix", *_TCMGANS, "no_disentanglement", "unified"), "Truth and error"),
    },
    rows={
        "12xPix2Pix": Row(("pix2pix",)),
        "4xTCMGAN": Row(_TCMGANS, title="TC-MGAN, mean of 4 sources"),
        "Proposed - disen": Row(("no_disentanglement",)),
        "Proposed": Row(("unified",)),
        "Original 4 modalities": Row(("unified",), "_real", "4 real modalities"),
    },
    also={
        "ssim": ("ssim_brain", "SSIM in the brain"),
        "psnr": ("psnr_brain", "PSNR in the brain"),
    },
    protocols={
        "absolute_error_sum": "85 test subjects; the range, and what is summed, are not stated",
        "ssim": "85 test subjects; range, window and region are not stated",
        "psnr": "85 test subjects; range and region are not stated",
        "inception_score": "the network is not stated; a classifier of 4 modalities would give 4 at most",
        "dice": "whole tumour, one real slice and three synthesised",
    },
    notes=(
        "The paper does not say what its ± is taken over.",
        "Errors and likeness can be compared only when data, image size, range and region are the same.",
    ),
)
