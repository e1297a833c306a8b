"""Wrong lines of the evaluation of harmonisation and of the normalisations that it is compared with."""

AUDIT = "tests/evaluation/test_harmonize.py"
CHEAP = "tests/evaluation/test_normalizations.py"


def audit(name, old, new, test):
    return name, "tfdisent/evaluation/harmonize.py", old, new, f"{AUDIT}::{test}"


def cheap(name, old, new, test):
    return name, "tfdisent/evaluation/normalizations.py", old, new, f"{CHEAP}::{test}"


TRUTH = "test_an_ideal_model_has_the_error_of_noise_and_an_identity_that_of_the_scanners"
GAP = "test_an_ideal_model_recovers_the_gap_an_identity_nothing_and_an_inversion_less"
OVERLAP = "test_generalised_dice_is_that_of_its_paper"
SIGN = "test_lesions_keep_their_sign_where_contrast_does_and_all_flip_where_it_is_inverted"
LESION = "test_contrast_of_a_lesion_is_its_mean_less_that_around_it"
LOCAL = "test_local_contrast_is_blind_to_gain_and_offset_and_sees_an_inversion"
ATROPHY = "test_the_effect_of_atrophy_stays_with_an_ideal_model_and_goes_where_ventricles_are_filled"
NOISY = "test_noise_that_the_way_back_amplifies_is_seen"

MUTATIONS = [
    audit("error against the source", 'there = truth["image"][..., 0]', 'there = scan["image"][..., 0]', TRUTH),
    audit("floor of nothing", 'np.abs(truth["clean"] - there)', "np.abs(there - there)", TRUTH),
    audit("gap over the target's own", '"_source_on_source": None,', '"_target_on_target": None,', GAP),
    audit("gap without its floor", "(ours - worst) / (best - worst)", "ours / best", GAP),
    audit(
        "the source's net on harmonised scans", '(("target", "harmonized"), "the', '(("source", "source"), "the', GAP
    ),
    audit("Dice without its 2", '"dice": 2 * both', '"dice": both', OVERLAP),
    audit("IoU that counts both twice", "(predicted + true - both)", "(predicted + true)", OVERLAP),
    audit("weights by size", "1 / true**2", "1 / np.maximum(true, 1)", OVERLAP),
    audit("signs of what is made alone", "np.sign(before) != np.sign(after)", "np.sign(after) != np.sign(after)", SIGN),
    audit("contrast after is that before", "for image in (before, after)]", "for image in (before, before)]", LESION),
    audit("around, with other lesions", "(labels[k] != label) & inside[k]", "inside[k]", LESION),
    audit("correlation without its sign", "np.corrcoef(one, two)[0, 1])", "abs(np.corrcoef(one, two)[0, 1]))", LOCAL),
    audit(
        "volumes before are those after",
        'for when in ("true", "before", "after"))',
        'for when in ("true", "after", "after"))',
        ATROPHY,
    ),
    audit("effect upside down", "effect[2] / effect[1]", "effect[1] / effect[0]", ATROPHY),
    audit(
        "no noise",
        "for sigma in NOISE:\n            noisy = made + sigma * random",
        "for sigma in NOISE:\n            noisy = made + 0 * random",
        NOISY,
    ),
    audit("noise that is not seen", "np.mean((other - back) ** 2", "np.mean((back - back) ** 2", NOISY),
    cheap(
        "z-scores of the scan alone",
        "* spread + mean\n\n    def histogram(",
        "\n\n    def histogram(",
        "test_a_gain_and_an_offset_are_undone",
    ),
    cheap(
        "a histogram of its own",
        'pooled["source"], pooled["target"]',
        'np.quantile(image[inside], LEVELS), pooled["target"]',
        "test_a_scan_of_its_own_gain_is_matched_by_its_own_histogram_and_not_by_that_of_all_scans",
    ),
    cheap(
        "background that is changed",
        "np.where(inside, 2 * made - 1, image)",
        "(2 * made - 1)",
        "test_a_gain_and_an_offset_are_undone",
    ),
]
