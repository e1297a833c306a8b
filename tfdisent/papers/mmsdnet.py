"""Chartsias et al.: Disentangle, align and fuse for multimodal and semi-supervised image segmentation.

The paper prints per cent, whose digits are kept here as shares; what it sets in small type beside a mean is taken for
its standard deviation. "MMSDNet" joins two rows of Table I, of the target alone and of both modalities at inference.
Left out is BOLD, which is not public and has no phantom. Table III has a row for each way of pairing slices: of those
that are not expert, the data are prepared with a source slice drawn from those up to two positions away, or with three
of them, among which the right one is, for the balancer to weight.
"""

from tfdisent.papers.paper import Figure, Paper, Row, transcribed

_KINDS = ("copy", "register", "target", "fused")
_METRICS = tuple(f"dice_slices_{kind}" for kind in _KINDS)
_SHARES = {"100": "", "50": "_50", "25": "_25", "12.5": "_12", "0": "_0"}
_METHODS = {"UNet-single": "unet_single", "UNet-both": "unet_both", "DualStream": "dual_stream", "MMSDNet": "mmsdnet"}

_DRAWN = ("reference=LGE", "shuffled=2")
_PAIRS = {  # of Table III
    "expert": ("mmsdnet", ()),
    "automated": ("mmsdnet_candidates", (*_DRAWN, "candidates=3")),
    "random": ("mmsdnet", _DRAWN),
}
_PAIR_METRICS = ("dice_slices_copy", "dice_slices_fused")

_FIRST = "Copied labels of automated pairs are those of the first of the drawn candidates."
_UNTRAINED = "DualStream equals UNet-both digit for digit in the paper: its stream of the target has not been trained."


def _table(number: str, data: str, share: str, rows: str, note: str = "", metrics: tuple[str, ...] = _METRICS):
    """A part of a table, whose rows are named with the share of the target's labels."""
    named = "\n".join(
        line if line.startswith(("copy", "register")) else line.replace("  ", f", {share} %  ", 1)
        for line in rows.strip("\n").splitlines()
        for line in [line.strip()]
    )
    return transcribed(f"Table {number}, {share} % of the target's labels", data, metrics, named, note)


PAPER = Paper(
    name="mmsdnet",
    title="Disentangle, align and fuse for multimodal and semi-supervised image segmentation",
    citation="A. Chartsias et al., IEEE Transactions on Medical Imaging 40, 781, 2021",
    url="https://arxiv.org/abs/1911.04417",
    data={"chaos": "CHAOS", "abdomen_phantom": "CHAOS", "cardiac_phantom": "ERI"},
    phantoms={"CHAOS": "abdomen_phantom", "ERI": "cardiac_phantom"},
    tables={
        1: (
            _table(
                "I",
                "CHAOS",
                "100",
                """
                copy         0.71 ± 0.10  –            –            –
                register     –            0.70 ± 0.07  –            –
                UNet-single  –            –            0.85 ± 0.17  –
                UNet-both    –            –            0.85 ± 0.15  –
                DualStream   –            –            0.85 ± 0.16  –
                MMSDNet      –            –            0.83 ± 0.17  0.85 ± 0.05
                """,
            ),
            _table(
                "I",
                "CHAOS",
                "0",
                """
                copy        0.71 ± 0.10  –            –            –
                register    –            0.70 ± 0.07  –            –
                UNet-both   –            –            0.11 ± 0.05  –
                DualStream  –            –            0.11 ± 0.05  –
                MMSDNet     –            –            0.72 ± 0.12  0.74 ± 0.03
                """,
                _UNTRAINED,
            ),
            _table(
                "I",
                "ERI",
                "100",
                """
                copy         0.67 ± 0.06  –            –            –
                register     –            0.68 ± 0.07  –            –
                UNet-single  –            –            0.78 ± 0.04  –
                UNet-both    –            –            0.81 ± 0.03  –
                DualStream   –            –            0.80 ± 0.06  –
                MMSDNet      –            –            0.82 ± 0.03  0.82 ± 0.03
                """,
            ),
            _table(
                "I",
                "ERI",
                "0",
                """
                copy        0.67 ± 0.06  –            –            –
                register    –            0.68 ± 0.07  –            –
                UNet-both   –            –            0.38 ± 0.23  –
                DualStream  –            –            0.38 ± 0.23  –
                MMSDNet     –            –            0.72 ± 0.06  0.74 ± 0.04
                """,
                _UNTRAINED,
            ),
        ),
        2: (
            _table(
                "II",
                "CHAOS",
                "50",
                """
                UNet-single  –  –  0.80 ± 0.17  –
                UNet-both    –  –  0.84 ± 0.15  –
                DualStream   –  –  0.81 ± 0.19  –
                MMSDNet      –  –  –            0.84 ± 0.05
                """,
            ),
            _table(
                "II",
                "CHAOS",
                "25",
                """
                UNet-single  –  –  0.76 ± 0.15  –
                UNet-both    –  –  0.79 ± 0.16  –
                DualStream   –  –  0.78 ± 0.16  –
                MMSDNet      –  –  –            0.82 ± 0.03
                """,
            ),
            _table(
                "II",
                "CHAOS",
                "12.5",
                """
                UNet-single  –  –  0.72 ± 0.17  –
                UNet-both    –  –  0.75 ± 0.16  –
                DualStream   –  –  0.75 ± 0.16  –
                MMSDNet      –  –  –            0.79 ± 0.05
                """,
                "The paper's copy, 0.67 ± 0.06, is ERI's by a slip, and is left out.",
            ),
            _table(
                "II",
                "ERI",
                "50",
                """
                UNet-single  –  –  0.76 ± 0.12  –
                UNet-both    –  –  0.76 ± 0.08  –
                DualStream   –  –  0.76 ± 0.03  –
                MMSDNet      –  –  –            0.78 ± 0.04
                """,
            ),
            _table(
                "II",
                "ERI",
                "25",
                """
                UNet-single  –  –  0.66 ± 0.14  –
                UNet-both    –  –  0.71 ± 0.10  –
                DualStream   –  –  0.61 ± 0.13  –
                MMSDNet      –  –  –            0.76 ± 0.05
                """,
            ),
            _table(
                "II",
                "ERI",
                "12.5",
                """
                UNet-single  –  –  0.51 ± 0.21  –
                UNet-both    –  –  0.60 ± 0.21  –
                DualStream   –  –  0.44 ± 0.23  –
                MMSDNet      –  –  –            0.74 ± 0.05
                """,
            ),
        ),
        3: (
            _table(
                "III",
                "ERI",
                "0",
                """
                expert     0.67 ± 0.06  0.74 ± 0.04
                automated  –            0.71 ± 0.06
                random     0.44 ± 0.16  0.65 ± 0.08
                """,
                _FIRST,
                _PAIR_METRICS,
            ),
            _table(
                "III",
                "ERI",
                "100",
                """
                expert     0.67 ± 0.06  0.82 ± 0.03
                automated  –            0.80 ± 0.03
                random     0.44 ± 0.16  0.77 ± 0.06
                """,
                _FIRST,
                _PAIR_METRICS,
            ),
        ),
    },
    figures={
        3: Figure(("ERI",), ("mmsdnet",), "Anatomy"),
        4: Figure(("ERI",), tuple(f"mmsdnet{ending}" for ending in _SHARES.values()), "Label maps"),
        5: Figure(("ERI",), ("mmsdnet_candidates", "mmsdnet_candidates_0"), "Pair weights", _PAIRS["automated"][1]),
        6: Figure(("CHAOS",), ("mmsdnet", "mmsdnet_spade"), "Reconstruction"),
        7: Figure(("CHAOS",), ("mmsdnet", "mmsdnet_spade"), "Latent arithmetic"),
    },
    rows={
        "copy": Row(("mmsdnet",), title="copy"),
        "register": Row(("mmsdnet",), title="register"),
        **{
            f"{title}, {share} %": Row((f"{method}{ending}",), ours=f"MMSDNet, {share} %")
            for title, method in _METHODS.items()
            for share, ending in _SHARES.items()
            if (title, share) != ("UNet-single", "0")
        },
        **{
            f"{pairs}, {share} %": Row(
                (f"{method}{_SHARES[share]}",), title=f"MMSDNet, {pairs} pairs, {share} %", options=options
            )
            for pairs, (method, options) in _PAIRS.items()
            for share in ("0", "100")
        },
    },
    also={
        "dice_slices_target": ("dice_target", "Dice of volumes, target"),
        "dice_slices_fused": ("dice_fused", "Dice of volumes, fused"),
    },
    protocols={
        metric: "3-fold cross-validation; slices with organs pooled, mean over slices, then over volumes"
        for metric in _METRICS
    },
    notes=(
        "The public code chooses the epoch by fused Dice on labels of the target, without any for training too; here "
        "the last averaged weights are taken.",
        "The paper's register is SyN by ANTs after an affine transform; here it is affine and B-splines by SimpleITK, "
        "which carry labels better. SyN by ANTsPy, where it is installed, is `dice_register_syn` in a run's metrics.",
        "Figure 5 shows here what the pairs weigh after training, not at each epoch.",
        "Errors can be compared only when data, image size and protocol are the same.",
    ),
)
