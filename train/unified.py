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


def parts(name: str) -> run.Parts:
    """The framework, or what it is compared with, by name; imported when flags are parsed."""
    from tfdisent.baselines.method import method
    from tfdisent.baselines.unified import METHODS
    from tfdisent.evaluation import unified

    known = method(METHODS, name)
    return run.Parts(name, known.title, known.model.config_class, known.model, unified, known.changes)


def main(argv):
    """Entry point of the command line."""
    if not FLAGS["dataset"].present:
        FLAGS.dataset = "brain_phantom"
    run.main(argv, "unified", FLAGS.model, parts)


if __name__ == "__main__":
    flags.adopt_module_key_flags(run)
    app.run(main)
