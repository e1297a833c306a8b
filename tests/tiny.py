"""The smallest settings of the systems, which tests share: plain values of config fields."""

# DRAI with as little as it can have; content and style of unlike lengths, so that a mix-up is an error.
NARROWEST = {
    "image_size": 16,
    "content_dim": 4,
    "style_dim": 5,
    **dict.fromkeys(("generator_filters", "encoder_filters", "discriminator_filters"), 2),
    **dict.fromkeys(("condition_units", "code_units", "joint_units", "regressor_units"), 4),
}
# DRAI that can learn something in a few steps.
NARROW = NARROWEST | {
    "style_dim": 4,
    **dict.fromkeys(("generator_filters", "encoder_filters", "discriminator_filters"), 4),
    **dict.fromkeys(("code_units", "joint_units", "regressor_units"), 8),
}
# Unified and its baselines on slices in two modalities.
TWO_MODALITIES = {"image_size": 32, "modalities": ("T1", "T2"), "filters": 2, "discriminator_filters": 2}
# Margin and its baselines on slices in two modalities.
MARGIN = {
    "image_size": 32,
    "neighbours": 0,
    "modalities": ("T1", "T2"),
    "code_dim": 3,
    "pool_size": 8,
    "decoder_filters": 8,
    **dict.fromkeys(("filters", "modality_filters", "spade_filters"), 2),
}
# Harmonisation and its baselines on slices with three classes.
HARMONIZE = {
    "image_size": 32,
    "labels": ("background", "tissue", "lesion"),
    "embedding_dim": 5,
    "num_levels": 2,
    **dict.fromkeys(("filters", "segmentor_filters", "extractor_filters", "discriminator_filters"), 2),
}
# Constants of the evaluation of harmonisation that make its judges small.
HARMONIZE_JUDGES = {
    "PROBES": 2,
    "PROBE_FIT": {"steps": 25, "batch_size": 16, "augment": ()},
    "SEGMENTOR_SIZE": {"filters": 4},
    "SEGMENTOR_FIT": {"epochs": 3, "batch_size": 8},
    "AUTOENCODER": {"filters": 2, "num_blocks": 1, "epochs": 4},
}
# Mmsdnet on slices in two modalities.
MMSDNET = {
    "image_size": 48,
    "modalities": ("T1", "T2"),
    "mask_labels": ("background", "liver", "spleen"),
    "anatomy_channels": 3,
    "code_dim": 3,
    "spade_filters": 4,
    "transformer_units": 4,
    **dict.fromkeys(("filters", "modality_filters", "segmentor_filters", "discriminator_filters"), 2),
    "transformer_filters": 2,
}
