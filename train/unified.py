"""Trains the unified framework for translation between modalities: python -m train.unified --dataset=brain_phantom
Or what it is compared with: python -m train.unified --model=pix2pix ...

Data sets: brain_phantom (made by itself), brats, manifest, bids (--raw_dir=DIR) with two modalities or more. Volumes
are prepared at their own size, or cut to --data=size=192x160, and resized when they are read: --set=image_size=128.

Presets (values of `UnifiedConfig`; two CPU cores):

| preset | slices | what it is for |
|---|---|---|
| quick | 64 x 64 | to see the effect in 8 minutes on one core: SSIM inside the brain 0.84 on brain_phantom |
| small | 128 x 128 | the same in half an hour: 0.85, lesions better |
| paper | 128 x 128 | the paper's setting; needs a GPU |
"""

from absl import app, flags

from tfdisent.experiment import run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model",
    "unified",
    "unified; or what it is compared with: pix2pix, a network for each pair of modalities; tcmgan_T2 (or another "
    "source), from one to all others; or unified with fewer terms: no_disentanglement, no_adversarial_cycle, "
    "translation_only.",
)

# Of every model, and those of the framework with its ablations, of Pix2Pix and of TC-MGAN alone.
QUICK = {
    "image_size": 64,
    "normalize": "volume",
    "filters": 16,
    "discriminator_filters": 16,
    "upsampling": "nearest",
    "initializer": "he_normal",
    "average_momentum": 0.995,
    "learning_rate": 1e-3,
    "batch_size": 16,
}
QUICK_UNIFIED = {
    "merge": True,
    "translation_weight": 100.0,
    "cycle_weight": 10.0,
    "adversarial_weight": 0.1,
    "modality_weight": 0.1,
    "disentanglement_weight": 10.0,
    "disentanglement_delay": 0.3,
    "learning_rate": 2e-3,
    "learning_rate_decay": 0.75,
    "clip_norm": 50.0,
    "steps": 4000,
}
QUICK_PIX2PIX = {"share_batch": True, "batch_size": 48, "steps": 1200}
# The sums over pixels make 0.1 a weight for 128 x 128.
QUICK_TCMGAN = {"segmentor_filters": 16, "translation_weight": 0.4, "steps": 2400}
SMALL = {"image_size": 128}
SMALL_TCMGAN = {"translation_weight": 0.1}


def presets(name: str) -> dict[str, dict]:
    """Values of a model's config by preset."""
    small = SMALL
    if name == "pix2pix":
        quick = QUICK | QUICK_PIX2PIX
    elif name.startswith("tcmgan"):
        quick, small = QUICK | QUICK_TCMGAN, SMALL | SMALL_TCMGAN
    else:
        quick = QUICK | QUICK_UNIFIED
    return {"quick": quick, "small": quick | small, "paper": {}}


def parts(name: str) -> run.Parts:
    """The framework, or what it is compared with, by name; imported when flags are parsed."""
    from tfdisent.baselines.unified import CONFIGS, MODELS, TITLES
    from tfdisent.evaluation import unified

    if name not in MODELS:
        raise ValueError(f"Unknown --model={name}. Known ones are: {', '.join(MODELS)}.")
    model, changes = MODELS[name]
    return run.Parts(
        name,
        TITLES[name],
        CONFIGS[name],
        model,
        unified,
        changes,
        fields=lambda manifest: {"modalities": tuple(manifest.modalities)},
        # A phantom is drawn at any size; of a volume another size would be another piece.
        options=lambda dataset, size: {"size": size} if dataset.endswith("_phantom") else {},
    )


def main(argv):
    """Entry point of the command line."""
    if not FLAGS["dataset"].present:
        FLAGS.dataset = "brain_phantom"
    run.main(argv, "unified", FLAGS.model, presets(FLAGS.model), parts)


if __name__ == "__main__":
    flags.adopt_module_key_flags(run)
    app.run(main)
