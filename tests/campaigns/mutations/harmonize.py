"""Wrong lines of the harmonisation, of its evaluation and of what it is compared with."""

SYSTEM = "tfdisent/systems/harmonize.py"
BASELINES = "tfdisent/baselines/harmonize.py"
GOLDEN = "tests/systems/test_harmonize_golden.py"
TERMS = f"{GOLDEN}::test_totals_and_terms_are_those_of_the_plain_statement"
GRADIENTS = f"{GOLDEN}::test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise"
STEP = f"{GOLDEN}::test_two_steps_move_every_variable_and_average_as_the_plain_statement_does"
OURS = "tests/systems/test_harmonize.py"
COMPARED = "tests/baselines/test_harmonize.py"
ROWS = (
    f"{OURS}::test_examples_are_told_apart_by_domain_and_those_of_other_scanners_or_without_the_contrast_are_left_out"
)
SHADED = f"{OURS}::test_generators_see_slices_under_shades_and_the_losses_the_slices_themselves"
SHADES = f"{OURS}::test_a_shade_is_a_sum_of_the_lowest_cosines_of_unit_variance"
SIZES = f"{OURS}::test_parameters_are_those_of_the_public_code"
DROPPED = f"{COMPARED}::test_semantic_dropout_keeps_pixels_of_classes_that_both_domains_show_and_greys_the_others"
KEPT = f"{COMPARED}::test_a_slice_without_a_label_map_is_kept_whole"
TRAINS = f"{COMPARED}::test_every_method_trains_and_harmonizes"


def system(name, old, new, test=TERMS):
    return name, SYSTEM, old, new, test


def baselines(name, old, new, test=TERMS):
    return name, BASELINES, old, new, test


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

EVALUATION = [
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
    audit("contrast on the target is that of what was made", '("_truth", true,', '("_truth", after,', SIGN),
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
        "no field is taken out",
        "histogram_scan(_without_bias(image, inside), inside)",
        "histogram_scan(image, inside)",
        "test_a_bias_field_is_undone_after_n4_alone_and_slices_without_foreground_pass",
    ),
    cheap(
        "each slice has a scale of its own after N4",
        " * np.exp(np.log(field[where]).mean())",
        "",
        "test_n4_leaves_the_scale_between_slices",
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

GENERATORS = [
    system(
        "g_adversarial judged by the own domain", "self.discriminators[other](fake", "self.discriminators[own](fake"
    ),
    system("g_adversarial on real slices", "self.discriminators[other](fake", "self.discriminators[other](real"),
    system("g_adversarial with the target of D", "least_squares(scores, 1.0)", "least_squares(scores, 0.0)"),
    system(
        "slices without their shade are translated",
        "self.translated(seen, real_logits",
        "self.translated(real, real_logits",
    ),
    system("shades hidden from the segmentation", "real_logits = self.logits(seen", "real_logits = self.logits(real"),
    system(
        "a shade changes nothing of itself",
        "plain = self.translated(real, self.logits(real",
        "plain = self.translated(seen, self.logits(seen",
    ),
    system(
        "no gradient to what a slice without its shade gives",
        "self.shown(plain, batch, own)",
        "ops.stop_gradient(self.shown(plain, batch, own))",
        GRADIENTS,
    ),
    system("weight of shading", '"shading": c.shading_weight', '"shading": c.cycle_weight'),
    system(
        "shades are added", "(batch[name] + 1.0) * ops.exp(shade) - 1.0", "batch[name] + ops.exp(shade) - 1.0", SHADED
    ),
    system("the losses see shades", 'drawn[f"{name}_shaded"] = (', 'drawn[name] = drawn[f"{name}_shaded"] = (', SHADED),
    system("shades of any variance", "/ np.sqrt(WAVES**2 - 1)", "/ (WAVES**2 - 1)", SHADES),
    system("shades of sines", "* np.cos(np.pi", "* np.sin(np.pi", SHADES),
    system("cycle of what is made once", "absolute_error(back, real)", "absolute_error(fake, real)"),
    system("cycle compared with what is made", "absolute_error(back, real)", "absolute_error(back, fake)"),
    system(
        "cycle by the squared error",
        "ops.mean(absolute_error(back, real))",
        "ops.mean(least_squares(back - real, 0.0))",
    ),
    system("only one direction counts", "sum(parts) for name, parts", "parts[0] for name, parts"),
    system("directions averaged", "sum(parts) for name, parts", "sum(parts) / 2 for name, parts"),
    system(
        "translated to the own domain",
        "self.translated(seen, real_logits, other",
        "self.translated(seen, real_logits, own",
    ),
    system(
        "back by the same generator",
        "self.translated(fake, fake_logits, own",
        "self.translated(fake, fake_logits, other",
    ),
    system(
        "back renormalised by the real slice",
        "self.translated(fake, fake_logits, own",
        "self.translated(fake, real_logits, own",
    ),
    system(
        "back made from the real slice",
        "self.translated(fake, fake_logits, own",
        "self.translated(real, fake_logits, own",
    ),
    system(
        "made slices segmented by the own net",
        "self.logits(fake, other, training=True)",
        "self.logits(fake, own, training=True)",
    ),
    system(
        "real slices segmented by the other net",
        "self.logits(real, own, training=True)",
        "self.logits(real, other, training=True)",
    ),
    system("labels of the other domain", "self.truth(batch, own)", "self.truth(batch, other)"),
    system(
        "made slices' labels not counted",
        '("generated_segmentation", fake_logits)',
        '("generated_segmentation", real_logits)',
    ),
    system(
        "unlabelled slices count",
        "softmax_cross_entropy(logits, truth), labelled)",
        "softmax_cross_entropy(logits, truth), ops.ones_like(labelled))",
    ),
    system("no class weights", 'dtype="float32") * weights, labelled', 'dtype="float32") + 0 * weights, labelled'),
    system(
        "all label maps count as there",
        'ops.cast(labelled, "float32")\n        weights',
        'ops.ones_like(ops.cast(labelled, "float32"))\n        weights',
    ),
    system(
        "weight of g_adversarial", '"g_adversarial": c.adversarial_weight', '"g_adversarial": 2 * c.adversarial_weight'
    ),
    system("weight of cycle", '"cycle": c.cycle_weight', '"cycle": c.segmentation_weight'),
    system(
        "weight of segmentation",
        '"segmentation": c.segmentation_weight',
        '"segmentation": c.generated_segmentation_weight',
    ),
    system(
        "weight of generated_segmentation",
        '"generated_segmentation": c.generated_segmentation_weight',
        '"generated_segmentation": c.segmentation_weight',
    ),
    system("logits go into f", "self.extractors[to](ops.softmax(logits)", "self.extractors[to](logits"),
    system("the other generator's f", "self.extractors[to](ops", "self.extractors[DOMAINS[1 - DOMAINS.index(to)]](ops"),
    system("f in inference mode", "(ops.softmax(logits), training=training)", "(ops.softmax(logits), training=False)"),
    system(
        "the generator in inference mode",
        '"embedding": embedding}, training=training)',
        '"embedding": embedding}, training=False)',
    ),
    system(
        "no gradient through the made slice",
        "fake_logits = self.logits(fake, other",
        "fake_logits = self.logits(ops.stop_gradient(fake), other",
        GRADIENTS,
    ),
    system(
        "no gradient through the conditioning",
        "embedding = self.extractors[to](ops.softmax(logits)",
        "embedding = self.extractors[to](ops.stop_gradient(ops.softmax(logits))",
        GRADIENTS,
    ),
    system(
        "the cycle does not reach the first generator",
        "back = self.shown(self.translated(fake,",
        "back = self.shown(self.translated(ops.stop_gradient(fake),",
        GRADIENTS,
    ),
]
PLAYERS = [
    system(
        "D on real slices of the other domain",
        "self.discriminators[name](batch[name]",
        "self.discriminators[name](batch[DOMAINS[1 - DOMAINS.index(name)]]",
    ),
    system(
        "D on slices made for the other domain",
        "self.discriminators[name](carried[name]",
        "self.discriminators[name](carried[DOMAINS[1 - DOMAINS.index(name)]]",
    ),
    system("made slices carried under the wrong domain", "made[other] = fake", "made[own] = fake"),
    system("D's real target", "0.5 * ops.mean(least_squares(real, 1.0))", "0.5 * ops.mean(least_squares(real, 0.0))"),
    system(
        "D's real half counts whole", "0.5 * ops.mean(least_squares(real, 1.0))", "ops.mean(least_squares(real, 1.0))"
    ),
    system(
        "D's made half counts whole", "0.5 * ops.mean(least_squares(made, 0.0))", "ops.mean(least_squares(made, 0.0))"
    ),
    system("D sees the way back", "            made[other] = fake", "            made[other] = back"),
    system(
        "averages without the segmentation nets",
        "(self.generators, self.extractors, self.segmentors)",
        "(self.generators, self.extractors)",
        STEP,
    ),
    system(
        "discriminators with the generators' rate",
        'c.learning_rate if player == "generators" else c.discriminator_learning_rate',
        "c.learning_rate",
        STEP,
    ),
    (
        "the rate falls from the start",
        "tfdisent/training/system.py",
        "(self.constant + self.falling - ops",
        "(self.falling - ops",
        f"{OURS}::test_the_rate_is_constant_and_then_falls_to_zero_on_a_line",
    ),
]
NETWORKS = [
    system(
        "generators begin with the inverted slice",
        "made + 2.0 * image",
        "made - 2.0 * image",
        f"{OURS}::test_with_level_0_a_generator_begins_with_the_contrast_that_it_is_given",
    ),
    baselines(
        "CycleGAN begins with noise",
        "h = beside_image(h, unet.input)",
        "h = beside_image(h, 0.0 * unet.input)",
        f"{OURS}::test_with_level_0_a_generator_begins_with_the_contrast_that_it_is_given",
    ),
    system(
        "the generator at half its resolution",
        "full_resolution(image, filters)]), filters)",
        "h]), filters)",
        f"{OURS}::test_with_level_0_a_generator_sees_single_pixels",
    ),
    baselines(
        "CycleGAN at half its resolution",
        "full_resolution(unet.input, config.segmentor_filters)",
        "h",
        f"{OURS}::test_with_level_0_a_generator_sees_single_pixels",
    ),
    system("f pools to 2 x 2", "max(1, side // 4)", "max(1, side // 2)", SIZES),
    system(
        "a discriminator with a stage more of stride 2",
        "((1, 2), (2, 2), (4, 1))",
        "((1, 2), (2, 2), (4, 2))",
        f"{OURS}::test_a_discriminator_judges_patches_of_34_pixels",
    ),
    system(
        "the generator forgets a skip",
        "keras.layers.Concatenate()([h, skip])",
        "keras.layers.Concatenate()([h])",
        SIZES,
    ),
    system(
        "segmentation nets without residual blocks",
        "        h = _residual_block(h, config",
        "        _residual_block(h, config",
        SIZES,
    ),
    system(
        "the segmentation is ignored",
        "* (1.0 + gamma) + beta",
        "* (1.0 + 0 * gamma) + 0 * beta",
        f"{OURS}::test_the_segmentation_of_another_slice_makes_another_image",
    ),
]
DATA = [
    system(
        "slices without the contrast are kept",
        'there = np.asarray(batch["available"])[:, channel] > 0',
        'there = np.asarray(batch["available"])[:, channel] >= 0',
        ROWS,
    ),
    system(
        "domains by their place in the pair",
        "domain == config.domains.index(name)",
        "domain == list(names.values()).index(name)",
        ROWS,
    ),
    system(
        "subjects on both scanners pass",
        "    if len(both):",
        "    if False:",
        f"{OURS}::test_a_subject_on_both_scanners_is_refused",
    ),
    system(
        "labels of the domain that is made",
        "own = DOMAINS[1 - DOMAINS.index(other)]\n        image = self",
        "own = other\n        image = self",
        f"{OURS}::test_harmonize_gives_slices_and_labels_there_and_back",
    ),
]
COMPARISON = [
    baselines("dropout of one draw alone", "< ops.sum(common)", "< 1.0", DROPPED),
    baselines("classes of one domain are kept", "common = seen[0] * seen[1]", "common = seen[1]", DROPPED),
    baselines(
        "unlabelled slices are dropped",
        "labelled[name][:, None, None, None] > 0)",
        "labelled[name][:, None, None, None] >= 0)",
        KEPT,
    ),
    baselines(
        "images are not dropped",
        'drawn[slices] = batch[slices] * drawn[f"{name}_kept"]',
        "drawn[slices] = batch[slices]",
        DROPPED,
    ),
    baselines("dropped labels count", "return self.shown(truth, batch, domain), labelled", "return truth, labelled"),
    baselines("what is made is not dropped", "return image if kept is None else image * kept", "return image"),
    baselines(
        "semantic dropout in every step",
        "seed=self.seed_generator) < self.config.semantic_dropout",
        "seed=self.seed_generator) < 1.0",
        f"{COMPARED}::test_classes_are_dropped_in_the_share_of_steps_that_the_config_says",
    ),
    system("CycleGAN with segmentation nets", "if c.is_segmented else {}", "if True else {}", TRAINS),
    baselines(
        "the official network with blocks on both sides",
        "filters=config.filters, num_blocks=0)",
        "filters=config.filters, num_blocks=1)",
        f"{COMPARED}::test_cyclegans_own_network_has_nine_blocks_and_ends_between_minus_one_and_one",
    ),
    baselines(
        "the U-Net without tanh",
        'keras.layers.Activation("tanh", dtype="float32")(h)',
        'keras.layers.Activation("linear", dtype="float32")(h)',
        f"{COMPARED}::test_the_unet_ends_between_minus_one_and_one",
    ),
]


def in_file(file, test_file):
    """Mutations of one file, seen by tests of another: a function of name, old, new and test."""

    def mutation(name, old, new, test):
        return name, file, old, new, f"{test_file}::{test}"

    return mutation


agreement = in_file("tfdisent/metrics/agreement.py", "tests/metrics/test_agreement.py")
travelling = in_file("tfdisent/evaluation/travelling.py", "tests/evaluation/test_travelling.py")
benchmark = in_file("tfdisent/experiment/travelling.py", "tests/experiment/test_harmonize.py")
registration = in_file("tfdisent/volumes/registration.py", "tests/volumes/test_registration.py")
SHROUT = "test_the_example_of_shrout_and_fleiss_comes_out_as_printed"
IDEAL = "test_an_ideal_method_has_the_best_of_every_measure"
GRIDS = "test_scans_are_compared_where_they_lie_if_their_grids_agree_and_else_after_a_registration"
UNSEEN = "test_hashed_subjects_are_not_held_against_plain_ones_and_those_that_chose_the_best_count_as_seen"

TRAVELLING = [
    agreement("offsets of raters forgiven", 'if model == "2" else 0.0', "if False else 0.0", SHROUT),
    agreement("noise within subjects for the rest", '"2": error,', '"2": within,', SHROUT),
    agreement(
        "deviation of the whole population",
        "np.maximum(count - 1, 1)",
        "np.maximum(count, 1)",
        "test_variation_is_the_deviation_of_a_sample_over_the_mean",
    ),
    travelling("target harmonised like the others", "found[n, k] = of_target", "found[n, k] = 0 * of_target", IDEAL),
    travelling(
        "volumes of scans as they were", "= volumes_of(segmentor, made,", "= volumes_of(segmentor, scan.image,", IDEAL
    ),
    travelling(
        "error of scans as they were", "error_to(truth, onto(made),", "error_to(truth, onto(scan.image),", IDEAL
    ),
    travelling("no registration", 'if registration == "rigid" or', "if False and", GRIDS),
    travelling(
        "volumes without the spacing",
        "np.prod(spacing, dtype=float) / 1000",
        "1 / 1000",
        "test_volumes_are_in_millilitres_where_the_spacing_is_known",
    ),
    travelling(
        "pixels as large as those stored",
        "[0] * self._pixel",
        "[0]",
        "test_slices_are_in_the_order_of_their_places_and_pixels_as_large_as_resizing_made_them",
    ),
    benchmark("subjects of the training welcome", "sorted(seen & set(subjects))", "sorted(seen - seen)", UNSEEN),
    benchmark(
        "the best checkpoint's subjects unseen", '["val"] if run.settings.select == "best" else []', "[]", UNSEEN
    ),
    registration(
        "spacing along x and z swapped",
        "image.SetSpacing((x, y, z))",
        "image.SetSpacing((z, y, x))",
        "test_a_scan_on_another_grid_is_brought_onto_the_fixed_one",
    ),
]

familiarity = in_file("tfdisent/familiarity.py", "tests/test_familiarity.py")
layers = in_file("tfdisent/metrics/segmentation.py", "tests/metrics/test_segmentation.py")
ENDS = "test_slices_at_the_ends_of_a_scan_and_empty_ones_do_not_count"
PLACED = "test_boundaries_are_found_in_their_place_after_an_ideal_harmonisation_and_not_before"
NEAR = "test_test_scans_of_the_source_are_near_those_of_other_scanners_far_and_that_is_said"

UNLIKE = [
    familiarity(
        "threshold of scans that are in it",
        "*_spread(np.delete(statistics, k, axis=0))",
        "*_spread(statistics)",
        "test_the_threshold_is_the_largest_distance_of_a_scan_that_was_left_out",
    ),
    familiarity(
        "statistics on scales of their own",
        "ledoit_wolf((statistics - mean) / scale,",
        "ledoit_wolf((statistics - mean) * scale,",
        "test_distances_do_not_depend_on_the_scale_of_a_statistic",
    ),
    familiarity("noise unseen", "np.log(fine.std() + 1e-3)", "0.0", "test_noise_and_grey_values_are_seen_each"),
    familiarity("slices at the ends count", "pixels.max(initial=0) / 2)", "0)", ENDS),
    audit("distance to the test scans", "familiar_source(train)\n    if", "familiar_source(test)\n    if", NEAR),
    audit("boundaries of scans as they were", 'lambda image: harmonized(model, image), "the', 'None, "the', PLACED),
    audit(
        "boundaries one pixel lower",
        "sum(axis=1) - 0.5",
        "sum(axis=1) + 0.5",
        "test_layers_between_boundaries_give_them_back_to_half_a_pixel",
    ),
    layers(
        "signed distances",
        "distance = np.abs(a - b)",
        "distance = a - b",
        "test_boundaries_are_as_far_apart_as_their_rows_on_average_over_columns",
    ),
]

MUTATIONS = [*GENERATORS, *PLAYERS, *NETWORKS, *DATA, *COMPARISON, *EVALUATION, *TRAVELLING, *UNLIKE]
