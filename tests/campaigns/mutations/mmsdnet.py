"""Wrong lines of mmsdnet, of what it is compared with, of its evaluation and of the data that it is told about."""

SYSTEM = "tfdisent/systems/mmsdnet.py"
BASELINES = "tfdisent/baselines/mmsdnet.py"
EVALUATION = "tfdisent/evaluation/mmsdnet.py"
SLICES = "tfdisent/evaluation/slices.py"
DEPENDENCE = "tfdisent/metrics/disentanglement.py"
COMPARISON = "tfdisent/metrics/comparison.py"
LAYER = "tfdisent/layers/transformer.py"
OBJECTIVES = "tfdisent/losses.py"
GOLDEN = "tests/systems/test_mmsdnet_golden.py"
TERMS = f"{GOLDEN}::test_totals_and_terms_are_those_of_the_paper"
GRADIENTS = f"{GOLDEN}::test_gradients_are_those_of_the_paper"
CANDIDATES = f"{GOLDEN}::test_totals_and_terms_with_candidates_are_those_of_the_paper"
CANDIDATE_GRADIENTS = f"{GOLDEN}::test_gradients_with_candidates_are_those_of_the_paper"
OURS = "tests/systems/test_mmsdnet.py"
ERROR = f"{OURS}::test_the_segmentation_error_is_zero_for_the_truth_and_one_in_dice_for_what_misses_all_of_it"
REAL = f"{OURS}::test_real_masks_are_drawn_from_labelled_slices_first"
PREDICTIONS = f"{OURS}::test_predictions_are_of_the_target_alone_of_the_source_deformed_to_it_and_of_both"
OF_CANDIDATES = f"{OURS}::test_the_prediction_of_candidates_is_the_mean_of_their_fused_labels_by_their_weights"
PERMUTED = f"{OURS}::test_permuted_candidates_permute_the_weights_and_leave_the_prediction"
OVERLAP = f"{OURS}::test_overlap_is_that_of_dice_over_the_sizes_of_both"
ALIGNED = f"{OURS}::test_align_gives_the_moving_anatomy_at_pixel_plus_field"
COMPARED = "tests/baselines/test_mmsdnet.py"
LEARNS = f"{COMPARED}::test_a_u_net_learns_from_the_modalities_that_it_is_trained_on_alone"
STATISTICS = f"{COMPARED}::test_slices_without_labels_have_no_part_in_weights_or_statistics"
MEASURED = "tests/evaluation/test_mmsdnet.py"
TABLES = "tfdisent/report/tables.py"
OF_TABLES = "tests/report/test_tables.py"
DIFFERENCES = f"{OF_TABLES}::test_differences_are_of_runs_with_the_same_seed"
PERFECT = f"{MEASURED}::test_a_perfect_map_scores_one_in_every_way_and_the_copy_what_it_overlaps"
EMPTY = f"{MEASURED}::test_empty_slices_raise_the_dice_of_slices_and_not_that_of_volumes"
FIELD = f"{MEASURED}::test_the_true_field_has_no_error_and_none_at_all_has_all_of_it"
WHOLE = f"{MEASURED}::test_unlabelled_slices_are_left_out_and_subjects_stay_whole"


def system(name, old, new, test=TERMS):
    return name, SYSTEM, old, new, test


def baselines(name, old, new, test):
    return name, BASELINES, old, new, test


def evaluation(name, old, new, test):
    return name, EVALUATION, old, new, test


def slices(name, old, new, test):
    return name, SLICES, old, new, test


LOSSES = [
    system("z is the mean", "mean + ops.exp(0.5 * log_variance) *", "mean + 0.0 *"),
    system("noise by the variance", "ops.exp(0.5 * log_variance)", "ops.exp(log_variance)"),
    system("kl as a mean over z", "c.code_dim * ops.mean(gaussian_kl(", "ops.mean(gaussian_kl("),
    system(
        "the fixed anatomy is deformed",
        "moved = {(k, n): moved_to(k, n)",
        "moved = {(k, n): moved_to(n, k)",
    ),
    system("deformed anatomies are left out", "for n in first if n != k)]", "for n in first if n < 0)]"),
    system(
        "deformed anatomies drawn in the look of their own modality",
        'y = self.decoder({"anatomy": one, "code": codes[k]}, training=True)',
        'y = self.decoder({"anatomy": one, "code": codes[k - 1]}, training=True)',
    ),
    system("labels of the other modality", 'batch["labels"][k], c)', 'batch["labels"][k - 1], c)'),
    system("labelled as the other modality", 'batch["labelled"][k])', 'batch["labelled"][k - 1])'),
    system(
        "unlabelled slices have a segmentation error",
        "weighted_mean(weight * errors, ",
        "ops.mean(weight * errors + 0 * ",
    ),
    system("reconstruction of the other slice", "absolute_error(y, images[k])", "absolute_error(y, images[k - 1])"),
    system(
        "the background is judged",
        "self.mask_discriminator(mask[..., 1:], training=False)",
        "self.mask_discriminator(mask[..., :-1], training=False)",
    ),
    system(
        "D_M moves its statistics in the networks' turn",
        "self.mask_discriminator(mask[..., 1:], training=False)",
        "self.mask_discriminator(mask[..., 1:], training=True)",
    ),
    system(
        "D_i of the other modality",
        "scores = self.image_discriminators[i](y, training=False)",
        "scores = self.image_discriminators[i - 1](y, training=False)",
    ),
    system(
        "code regression to the variance",
        "again, _ = self.moments(anatomy[k], y",
        "_, again = self.moments(anatomy[k], y",
    ),
    system("code regression from the encoded code", 'prior = batch["prior"][i]', "prior = codes[k]"),
    system("the prior of the other modality", 'prior = batch["prior"][i]', 'prior = batch["prior"][i - 1]'),
    system("weights of terms are left out", 'getattr(self.config, f"{name}_weight") for', "1.0 for"),
    system(
        "an adversarial target of 0",
        'terms["mask_adversarial"] += ops.mean(least_squares(scores, 1.0))',
        'terms["mask_adversarial"] += ops.mean(least_squares(scores, 0.0))',
    ),
    system(
        "an adversarial target of 0 for images",
        'terms["image_adversarial"] += ops.mean(least_squares(scores, 1.0))',
        'terms["image_adversarial"] += ops.mean(least_squares(scores, 0.0))',
    ),
    system(
        "masks without labels are real", "training=True), 1.0), there)", "training=True), 1.0), ops.ones_like(there))"
    ),
    system(
        "made masks are real",
        "self.mask_discriminator(made, training=True), 0.0)",
        "self.mask_discriminator(made, training=True), 1.0)",
    ),
    system(
        "real images are made",
        'batch["image"][..., k : k + 1], training=True), 1.0)',
        'batch["image"][..., k : k + 1], training=True), 0.0)',
    ),
    system(
        "the same masks in both turns of D_M",
        'batch["real"][i], axis=0)\n        there',
        'batch["real"][0], axis=0)\n        there',
    ),
    system(
        "the same draws of what is made",
        'carried[f"images_{i}"], batch["generated"][i]',
        'carried[f"images_{i}"], batch["generated"][i - 1]',
    ),
    system("D_i sees the other modality's images", 'carried[f"images_{i}"]', 'carried[f"images_{1 - i}"]'),
    system(
        "images of the own anatomy alone",
        'f"images_{i}": ops.concatenate(drawings)',
        'f"images_{i}": ops.concatenate([drawings[0]] * len(drawings))',
    ),
    system(
        "Dice of each organ",
        "flat = (-1, height, width * (config.num_labels - 1), 1)",
        "flat = (-1, height, width, config.num_labels - 1)",
    ),
    system(
        "the background in Dice",
        "ops.reshape(one[..., 1:], flat) for one in (mask, labels)",
        "ops.reshape(one[..., :-1], flat) for one in (mask, labels)",
        ERROR,
    ),
    system("no cross entropy", "config.cross_entropy_weight * ops.mean(entropy", "0.0 * ops.mean(entropy"),
    system(
        "gradients past the anatomy",
        '{"anatomy": anatomy, "image": image}, training=training)\n        return ops.split',
        '{"anatomy": ops.stop_gradient(anatomy), "image": image}, training=training)\n        return ops.split',
        GRADIENTS,
    ),
    system(
        "gradients past the moving anatomy",
        'self.transformer({"moving": anatomy[k],',
        'self.transformer({"moving": ops.stop_gradient(anatomy[k]),',
        GRADIENTS,
    ),
]
LABELS = [
    system("real masks of any slice", "> 0, order, 2.0)", "> 0, order, order)", REAL),
    (
        "labels of all subjects are read",
        "tfdisent/data/pipeline.py",
        "labelled[:, None, None, :] > 0",
        "labelled[:, None, None, :] >= 0",
        "tests/data/test_pipeline.py::test_labels_of_a_channel_are_read_of_a_share_of_the_subjects_alone",
    ),
    (
        "annotated subjects are the first",
        "tfdisent/data/pipeline.py",
        ".permutation(len(subjects))\n    return tuple",
        ".permutation(len(subjects)) * 0 + np.arange(len(subjects))\n    return tuple",
        "tests/data/test_pipeline.py::test_subjects_of_a_smaller_share_are_among_those_of_a_larger_and_seeds_draw_others",
    ),
]
FIELDS = [
    system("the last field alone is smooth", 'terms["smoothness"] += ops.mean(', 'terms["smoothness"] = ops.mean('),
    system("the field of the last pair alone aligns", 'terms["alignment"] -=', 'terms["alignment"] = -'),
    system("what is aligned is driven apart", 'terms["alignment"] -= ops', 'terms["alignment"] += ops'),
    system("the fixed slice is warped", "warp(images[k] + 1.0", "warp(images[n] + 1.0"),
    system(
        "outside of a slice it is grey",
        'warp(images[k] + 1.0, found["field"]) - 1.0',
        'warp(images[k], found["field"])',
    ),
    (
        "information without what each image holds",
        OBJECTIVES,
        "joint * (_safe_log(joint) - _safe_log(apart))",
        "joint * _safe_log(joint)",
        "tests/test_losses.py::test_mutual_information_of_an_image_with_itself_is_its_entropy_and_with_a_constant_none",
    ),
    (
        "one histogram for both images",
        OBJECTIVES,
        "(0, 2, 1)), _shares_of_bins(b, bins))",
        "(0, 2, 1)), _shares_of_bins(a, bins))",
        "tests/test_losses.py::test_mutual_information_is_that_of_the_joint_histogram_whatever_the_contrast",
    ),
    (
        "the field is rough along rows alone",
        OBJECTIVES,
        "field[:, :, 1:] - field[:, :, :-1]",
        "field[:, 1:] - field[:, :-1]",
        "tests/test_losses.py::test_field_roughness_is_of_a_shift_nothing_and_of_a_stretch_its_square",
    ),
    (
        "the field is in shares of the image",
        LAYER,
        'ops.cast(offsets, "float32")) * last',
        'ops.cast(offsets, "float32"))',
        "tests/layers/test_transformer.py::test_a_control_point_moves_what_is_near_it_and_is_met",
    ),
]

PAIRS = [
    system(
        "the first pair counts whole",
        "of_pair = weight[:, 0] if c.candidates > 1",
        "of_pair = 1.0 if c.candidates > 1",
        CANDIDATES,
    ),
    system(
        "further candidates are left out",
        "drawn(moved[k, target], target, weight[:, k])",
        "moved[k, target]",
        CANDIDATES,
    ),
    system(
        "candidates one way alone",
        "drawn(moved_to(target, k), k, weight[:, k])",
        "moved_to(target, k)",
        CANDIDATES,
    ),
    system("weights of the first pair for all", "target, weight[:, k])", "target, weight[:, 0])", CANDIDATES),
    system("overlap over one size", "ops.sum(one + fixed, (1, 2, 3))", "ops.sum(fixed + fixed, (1, 2, 3))", OVERLAP),
    system("overlap without its 2", "[2 * ops.sum(one * fixed", "[1 * ops.sum(one * fixed", OVERLAP),
    system(
        "no gradient to the balancer",
        "return self.balancer(ops.stack(overlap, axis=1), training=training)",
        "return ops.stop_gradient(self.balancer(ops.stack(overlap, axis=1), training=training))",
        CANDIDATE_GRADIENTS,
    ),
    system(
        "a balancer that learns the place",
        "keras.layers.Reshape((config.candidates, 1))(overlap)",
        "keras.layers.Reshape((config.candidates, 1))(keras.layers.Dense(config.candidates)(overlap))",
        PERMUTED,
    ),
    system(
        "candidates count alike",
        '"fused": sum(w * self.segment(ops.maximum(one, own)) for w, one in pairs)',
        '"fused": sum(self.segment(ops.maximum(one, own)) / len(pairs) for w, one in pairs)',
        OF_CANDIDATES,
    ),
]
VERBS = [
    system(
        "fused is deformed",
        '"fused": sum(w * self.segment(ops.maximum(one, own))',
        '"fused": sum(w * self.segment(one)',
        PREDICTIONS,
    ),
    system("the target is the source", '"target": self.segment(own)', '"target": self.segment(others[0])', PREDICTIONS),
    system(
        "the field that is told is transposed",
        'return self.transformer({"moving": moving, "fixed": fixed}, training=False)',
        'found = self.transformer({"moving": moving, "fixed": fixed}, training=False)\n'
        '        return {**found, "field": found["field"][..., ::-1]}',
        ALIGNED,
    ),
]
OPPONENTS = [
    baselines("a U-Net of all for the target", '"target": (target,)', '"target": (*sources, target)', LEARNS),
    baselines(
        "the source's U-Net sees the target", '"sources": tuple(sources)', '"sources": (*sources, target)', LEARNS
    ),
    baselines(
        "statistics of unlabelled slices",
        '"weight": labelled}\n        levels',
        '"weight": ops.ones_like(labelled)}\n        levels',
        STATISTICS,
    ),
    baselines(
        "rows of all subjects",
        "rows=np.flatnonzero(labelled))",
        "rows=np.arange(len(labelled)))",
        f"{COMPARED}::test_a_u_net_of_the_target_asks_for_slices_with_its_labels_alone",
    ),
    baselines(
        "the target's stream without labels",
        "            modality = 0\n",
        "            modality += 0\n",
        f"{COMPARED}::test_a_target_without_labels_is_seen_by_the_sources_stream",
    ),
]
MEASUREMENTS = [
    slices(
        "an organ taken for another is right",
        "(predicted == k) & (truth == k)",
        "(predicted > 0) & (truth == k)",
        f"{MEASURED}::test_an_organ_taken_for_another_is_wrong",
    ),
    slices("Dice without the factor two", "np.divide(2 * common", "np.divide(common", PERFECT),
    evaluation("empty slices score nothing", "empty=1.0)", "empty=0.0)", EMPTY),
    evaluation(
        "the field against none",
        "for one in (field - known, known, field)",
        "for one in (field + known, known, field)",
        FIELD,
    ),
    evaluation(
        "rows and columns of the field swapped",
        "np.moveaxis(field, -1, 0) + np.indices",
        "np.moveaxis(field[..., ::-1], -1, 0) + np.indices",
        FIELD,
    ),
    evaluation(
        "the warp runs backwards",
        "np.moveaxis(field, -1, 0) + np.indices",
        "-np.moveaxis(field, -1, 0) + np.indices",
        FIELD,
    ),
    evaluation(
        "unlabelled slices are measured", "reshape(len(test), -1)[:, 0])", "reshape(len(test), -1)[:, 0] >= 0)", WHOLE
    ),
    evaluation(
        "organs in any channel agree",
        ".tolist())) == 1)",
        ".tolist())) >= 1)",
        f"{MEASURED}::test_organs_in_one_channel_of_both_modalities_are_told_from_those_that_are_not",
    ),
]
UNALIGNED = f"{MEASURED}::test_without_its_transformer_a_model_has_what_the_source_overlaps"
EXCHANGED = (
    f"{MEASURED}::test_a_decoder_that_follows_the_code_exchanges_modalities_and_one_that_ignores_it_changes_nothing"
)
REAL_MODEL = f"{MEASURED}::test_a_real_model_of_candidates_is_measured_in_all_parts_and_left_as_it_was"
INFORMATION = f"{MEASURED}::test_a_code_that_is_noise_depends_on_nothing_and_tells_nothing_where_anatomy_tells_all"
CODES = [
    evaluation(
        "the source alone is fused",
        '"fused_unaligned": ops.maximum(source, own)',
        '"fused_unaligned": ops.maximum(source, source)',
        UNALIGNED,
    ),
    evaluation(
        "subjects share one Dice",
        "subjects=dict(zip(numbers, each, strict=True))",
        "subjects=dict.fromkeys(numbers, there.mean())",
        f"{MEASURED}::test_dice_of_each_subject_is_kept_without_its_name",
    ),
    evaluation("statistics of batches are kept", "variable.assign(value)", "variable.assign(variable)", REAL_MODEL),
    evaluation(
        "batches by running statistics",
        "model.segmentor(anatomy, training=training)",
        "model.segmentor(anatomy, training=False)",
        f"{MEASURED}::test_the_segmentor_too_sees_statistics_of_batches",
    ),
    evaluation(
        "slices elsewhere count in the mean displacement",
        'return batch["partner_distance"][:, 0] < 1e-3',
        'return batch["partner_distance"][:, 0] < 1e3',
        f"{MEASURED}::test_slices_elsewhere_have_no_part_in_the_mean_displacement",
    ),
    evaluation(
        "weights of pairs by their place",
        "nearest = distances.argmin(axis=1)[:, None]",
        "nearest = 0 * distances.argmin(axis=1)[:, None]",
        REAL_MODEL,
    ),
    evaluation(
        "the own mean code",
        '"source": made(anatomy[-1], codes[0])',
        '"source": made(anatomy[-1], codes[-1])',
        EXCHANGED,
    ),
    evaluation(
        "the twin against the wrong slice",
        'error(found["target"], target)',
        'error(found["target"], source)',
        EXCHANGED,
    ),
    evaluation(
        "windows off by a pixel",
        "margin = WINDOW // 2",
        "margin = WINDOW // 2 + 1",
        f"{MEASURED}::test_windows_hold_the_anatomy_around_a_pixel_row_by_row_and_nothing_beyond_the_edge",
    ),
    evaluation(
        "a decoder that does not know the mean",
        "mean.ravel()[places].ravel()])",
        "0 * mean.ravel()[places].ravel()])",
        INFORMATION,
    ),
    evaluation(
        "anatomy and slice exchanged",
        '"distance_correlation": ("anatomy", "code")',
        '"distance_correlation": ("slice", "code")',
        INFORMATION,
    ),
    (
        "information without its constant",
        DEPENDENCE,
        "made = mean + decoder",
        "made = decoder",
        "tests/metrics/test_disentanglement.py::test_information_over_bias_is_the_share_of_variance_that_the_code_leaves_turned_round",
    ),
]
STATISTICS_OF_RUNS = [
    (
        "SyN's row is that of B-splines",
        EVALUATION,
        'registered_metrics(register_by_syn, "register_syn"',
        'registered_metrics(register, "register_syn"',
        f"{MEASURED}::test_syn_stands_beside_it_where_it_is_installed",
    ),
    (
        "differences are of runs in the same place, whatever their seed",
        TABLES,
        "[one[run] - two[run] for run in one if run in two]",
        "[a - b for a, b in zip(one.values(), two.values())]",
        DIFFERENCES,
    ),
    (
        "differences are our own method's minus the other's",
        TABLES,
        "[one[run] - two[run] for run in one if run in two]",
        "[two[run] - one[run] for run in one if run in two]",
        DIFFERENCES,
    ),
    (
        "one common seed is enough",
        TABLES,
        "if most > 1:",
        "if most > 0:",
        f"{OF_TABLES}::test_without_two_common_seeds_there_are_no_differences",
    ),
    (
        "distances centred with their bias",
        DEPENDENCE,
        '(("corrected", _unbiased)',
        '(("corrected", _centred)',
        "tests/metrics/test_disentanglement.py::test_wide_independent_sets_seem_alike_until_the_bias_is_taken_out",
    ),
    (
        "the diagonal is left in",
        DEPENDENCE,
        "np.fill_diagonal(centred, 0.0)",
        "np.fill_diagonal(centred, np.diag(centred))",
        "tests/metrics/test_disentanglement.py::test_the_bias_corrected_correlation_is_the_published_sum_written_out",
    ),
    (
        "rows are permuted and columns are not",
        DEPENDENCE,
        "y[np.ix_(order, order)]",
        "y[order]",
        "tests/metrics/test_disentanglement.py::test_wide_independent_sets_seem_alike_until_the_bias_is_taken_out",
    ),
    (
        "subjects are exchanged among each other",
        COMPARISON,
        "(differences,),",
        "(first, second),",
        "tests/metrics/test_comparison.py::test_of_five_subjects_that_all_gain_two_of_all_32_exchanges_are_as_extreme",
    ),
    (
        "subjects without a score count",
        COMPARISON,
        "np.isfinite(first) & np.isfinite(second)",
        "np.isfinite(first) | np.isfinite(second)",
        "tests/metrics/test_comparison.py::test_subjects_without_a_score_are_left_out",
    ),
]

MUTATIONS = [*LOSSES, *LABELS, *FIELDS, *PAIRS, *VERBS, *OPPONENTS, *MEASUREMENTS, *CODES, *STATISTICS_OF_RUNS]
