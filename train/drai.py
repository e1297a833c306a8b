"""Trains DRAI: python -m train.drai --dataset=skin_phantom --preset=quick
Or what it is compared with: python -m train.drai --model=dcinfogan ...

Data sets: skin_phantom, nodule_phantom (made by themselves), ham10000, lidc, lidc_patches (--raw_dir=DIR).

Presets (values of `DRAIConfig`; two CPU cores):

| preset | images | what it is for |
|---|---|---|
| quick | 32 x 32 | to see the effect in minutes |
| small | 64 x 64 | the same in half an hour |
| paper | 64 x 64 | the paper's setting; needs a GPU |
"""

from absl import app, flags

from tfdisent.experiment import run

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "model",
    "drai",
    "DRAI; or what it is compared with: cinfogan, dcinfogan, cavae, dcavae, dai; or DAI with some of DRAI's terms: "
    "selfReg, MIReg, featureCycle, or two of them, as in selfReg+MIReg.",
)

QUICK = {
    "image_size": 32,
    "content_dim": 32,
    "style_dim": 16,
    "generator_filters": 16,
    "encoder_filters": 16,
    "discriminator_filters": 16,
    "condition_units": 32,
    "code_units": 128,
    "joint_units": 256,
    "regressor_units": 128,
    "batch_norm": False,
    "dropout": 0.0,
    "initializer": "he_normal",
    "kl_weight": 0.1,
    "code_cycle_weight": 2.0,
    "style_margin": 0.7,
    "train_twice": False,
    "augmentation": "symmetry",
    "average_momentum": 0.995,
    "learning_rate": 6e-4,
    "clip_norm": 50.0,
    "batch_size": 32,
    "steps": 3600,
}
PRESETS = {
    "quick": QUICK,
    "small": QUICK | {"image_size": 64, "generator_filters": 12, "steps": 3200},
    "paper": {},
}


def parts(name: str) -> run.Parts:
    """DRAI, or what it is compared with, by name; imported when flags are parsed."""
    from tfdisent.baselines.drai import MODELS, TITLES
    from tfdisent.evaluation import drai
    from tfdisent.systems.drai import DRAIConfig

    if name not in MODELS:
        raise ValueError(f"Unknown --model={name}. Known ones are: {', '.join(MODELS)}.")
    model, changes = MODELS[name]
    return run.Parts(
        name,
        TITLES[name],
        DRAIConfig,
        model,
        drai,
        changes,
        fields=lambda manifest: {
            "channels": manifest.image_shape[-1],
            "num_conditions": len(manifest.condition_names),
        },
        options=lambda dataset, image_size: {"size": image_size},
    )


def main(argv):
    """Entry point of the command line."""
    run.main(argv, "drai", FLAGS.model, PRESETS, parts)


if __name__ == "__main__":
    flags.adopt_module_key_flags(run)
    app.run(main)
