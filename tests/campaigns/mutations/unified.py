"""Wrong lines of the unified framework, of what it is compared with, and of what both are built on."""

UNIFIED = "tfdisent/systems/unified.py"
BASELINES = "tfdisent/baselines/unified.py"
GOLDEN = "tests/systems/test_unified_golden.py"
GOLDEN_BASELINES = "tests/baselines/test_unified_golden.py"
TERMS = f"{GOLDEN}::test_totals_and_terms_of_the_framework_and_its_ablations_are_those_of_the_plain_statement"
CHOICES = f"{GOLDEN}::test_totals_and_terms_of_the_choices_are_those_of_the_plain_statement"
GRADIENTS = f"{GOLDEN}::test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise"
DELAY = f"{GOLDEN}::test_a_delayed_disentanglement_has_its_share_of_the_total"
PASS = f"{GOLDEN}::test_a_pass_is_the_slices_and_codes_of_the_modalities_drawn_and_counts_who_has_them"
STEP = f"{GOLDEN}::test_two_steps_move_every_variable_and_average_as_the_plain_statement_does"
BASELINE_TERMS = f"{GOLDEN_BASELINES}::test_totals_and_terms_are_those_of_the_plain_statement"
BASELINE_GRADIENTS = f"{GOLDEN_BASELINES}::test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise"
BASELINE_STEP = f"{GOLDEN_BASELINES}::test_two_steps_move_every_variable_and_average_as_the_plain_statement_does"
SYSTEM = "tests/systems/test_unified.py"
EVALUATION = "tfdisent/evaluation/unified.py"
SLICES = "tfdisent/evaluation/slices.py"
GOLDEN_EVALUATION = "tests/evaluation/test_unified_golden.py"
ERRORS = f"{GOLDEN_EVALUATION}::test_errors_and_psnr_are_those_on_the_scale_of_0_to_1_inside_the_brain_and_on_the_slice"
SSIM = f"{GOLDEN_EVALUATION}::test_ssim_is_scikit_images_of_range_1_averaged_inside_the_brain_or_over_the_slice"
LESION = f"{GOLDEN_EVALUATION}::test_errors_in_the_lesion_and_elsewhere_are_told_apart"
DICE = f"{GOLDEN_EVALUATION}::test_dice_is_of_real_slices_of_one_alone_and_of_one_with_those_made_from_it"
ANATOMY = f"{GOLDEN_EVALUATION}::test_the_distance_of_anatomies_is_that_of_modalities_divided_by_that_of_subjects"
PICTURES = f"{GOLDEN_EVALUATION}::test_pictures_of_training_show_the_averaged_weights"
BASELINE = "tests/baselines/test_unified.py"


def unified(name, old, new, test=TERMS):
    return name, UNIFIED, old, new, test


def baselines(name, old, new, test=BASELINE_TERMS):
    return name, BASELINES, old, new, test


def evaluation(name, old, new, test=ERRORS):
    return name, EVALUATION, old, new, test


def slices(name, old, new, test=ERRORS):
    return name, SLICES, old, new, test


TRANSLATION = [
    unified(
        "translation compared with the source",
        "self.translation_error(generated, y, batch)",
        "self.translation_error(generated, x, batch)",
    ),
    unified(
        "translation of who has nothing counts",
        "weighted_mean(self.translation_error(generated, y, batch), weight)",
        "ops.mean(self.translation_error(generated, y, batch))",
    ),
    unified(
        "lesions count as the rest does",
        "weight = 1.0 + self.config.lesion_weight * batch",
        "weight = 1.0 + 0.0 * batch",
        CHOICES,
    ),
    unified(
        "translation without its weight",
        '"translation": c.translation_weight,',
        '"translation": 1.0,',
    ),
    unified(
        "translated into the source modality",
        'generated = self.decoder({**features, "code": batch["target_code"]}',
        'generated = self.decoder({**features, "code": batch["source_code"]}',
    ),
    unified(
        "the cycle returns to the target modality", 'code = batch["source_code"]\n', 'code = batch["target_code"]\n'
    ),
    unified("the cycle compared with the target", "absolute_error(returned, x)", "absolute_error(returned, y)"),
    unified(
        "the cycle starts from the source",
        "features_again = self.encoder(generated, training=True)",
        "features_again = self.encoder(x, training=True)",
    ),
    unified(
        "the cycle does not reach the first translation",
        "features_again = self.encoder(generated, training=True)",
        "features_again = self.encoder(ops.stop_gradient(generated), training=True)",
        GRADIENTS,
    ),
    unified(
        "the cycle has the weight of the translation",
        '"cycle": c.cycle_weight,',
        '"cycle": c.translation_weight,',
    ),
]

DISENTANGLEMENT = [
    unified(
        "Eq. 5 moves the decoder",
        "generated if c.disentangle_decoder else ops.stop_gradient(generated)",
        "generated",
        GRADIENTS,
    ),
    unified(
        "Eq. 5 never moves the decoder",
        "generated if c.disentangle_decoder else ops.stop_gradient(generated)",
        "ops.stop_gradient(generated)",
        f"{GOLDEN}::test_each_networks_gradient_under_the_choices_is_that_of_the_plain_statement",
    ),
    unified(
        "Eq. 5 compares with a source without a gradient",
        "anatomy_distance(self.encoder(image, training=True), features, c.disentangle_skips)",
        "anatomy_distance(self.encoder(image, training=True), "
        "{k: ops.stop_gradient(v) for k, v in features.items()}, c.disentangle_skips)",
        GRADIENTS,
    ),
    unified(
        "Eq. 5 on the real target",
        "anatomy_distance(self.encoder(image, training=True), features",
        "anatomy_distance(self.encoder(y, training=True), features",
    ),
    unified(
        "Eq. 5 on the bottleneck alone",
        "levels = sorted(anatomy) if all_levels else [max(anatomy)]",
        "levels = [max(anatomy)]",
    ),
    unified(
        "the bottleneck is the finest level",
        "levels = sorted(anatomy) if all_levels else [max(anatomy)]",
        "levels = sorted(anatomy) if all_levels else [min(anatomy)]",
        CHOICES,
    ),
    unified(
        "levels are summed",
        "for level in levels) / len(levels)",
        "for level in levels) / 1.0",
    ),
    unified("Eq. 5 of who has nothing counts", "weighted_mean(distance, weight)", "ops.mean(distance)"),
    unified(
        "the delay has no end",
        "ops.clip(done / c.disentanglement_delay - 1.0, 0.0, 1.0)",
        "ops.clip(done / c.disentanglement_delay - 1.0, 0.0, 0.0)",
        DELAY,
    ),
    unified(
        "the weight grows from the first step",
        "ops.clip(done / c.disentanglement_delay - 1.0, 0.0, 1.0)",
        "ops.clip(done / c.disentanglement_delay, 0.0, 1.0)",
        DELAY,
    ),
]

ADVERSARIAL = [
    unified(
        "the generator makes Dis say generated",
        "weighted_mean(adversarial_loss(scores, 1.0), weight)",
        "weighted_mean(adversarial_loss(scores, 0.0), weight)",
    ),
    unified(
        "the generator is asked for the source modality",
        'softmax_cross_entropy(modality, batch["target_code"])',
        'softmax_cross_entropy(modality, batch["source_code"])',
    ),
    unified(
        "the generator's Dis sees the real target",
        "scores, modality = self.discriminator(generated, training=True)",
        "scores, modality = self.discriminator(y, training=True)",
        GRADIENTS,
    ),
    unified(
        "beta and lambda_1 exchanged",
        '"g_adversarial": c.adversarial_weight,\n            "g_modality": c.modality_weight,',
        '"g_adversarial": c.modality_weight,\n            "g_modality": c.adversarial_weight,',
    ),
    unified(
        "Dis takes the source for real",
        'self.discriminator(batch["target"], training=True)',
        'self.discriminator(batch["source"], training=True)',
    ),
    unified(
        "Dis does not see what is generated",
        "adversarial = adversarial_loss(scores, 1.0) + adversarial_loss(scores_generated, 0.0)",
        "adversarial = adversarial_loss(scores, 1.0)",
    ),
    unified(
        "Dis the wrong way round",
        "adversarial = adversarial_loss(scores, 1.0) + adversarial_loss(scores_generated, 0.0)",
        "adversarial = adversarial_loss(scores, 0.0) + adversarial_loss(scores_generated, 1.0)",
    ),
    unified(
        "Dis_mc learns on generated slices alone",
        "classification = softmax_cross_entropy(modality, code)",
        "classification = softmax_cross_entropy(modality_generated, code)",
    ),
    unified("Dis_mc always learns on generated slices", "if c.classify_generated:", "if True:"),
    unified(
        "Dis_mc learns the source modality",
        'ADVERSARIAL_LOSSES[c.adversarial_loss], batch["target_code"]',
        'ADVERSARIAL_LOSSES[c.adversarial_loss], batch["source_code"]',
    ),
    unified(
        "lambda_2 is lambda_1",
        '"d_modality": c.discriminator_modality_weight,',
        '"d_modality": c.modality_weight,',
    ),
    unified(
        "Dis sees who has nothing",
        'weighted_mean(adversarial, batch["weight"])',
        "ops.mean(adversarial)",
    ),
    unified(
        "least squares where cross entropy is asked for",
        '"cross_entropy": binary_cross_entropy, "least_squares": least_squares',
        '"cross_entropy": least_squares, "least_squares": least_squares',
    ),
    (
        "cross entropy the wrong way round",
        "tfdisent/losses.py",
        "ops.softplus(logits) - _float32(target) * logits",
        "ops.softplus(logits) - (1.0 - _float32(target)) * logits",
        TERMS,
    ),
    (
        "softmax without its normaliser",
        "tfdisent/losses.py",
        "log_probability = ops.log_softmax(_float32(logits), axis=-1)",
        "log_probability = _float32(logits)",
        TERMS,
    ),
    (
        "a weighted mean over all",
        "tfdisent/losses.py",
        "/ ops.maximum(ops.sum(weight), 1.0)",
        "/ len(weight)",
        TERMS,
    ),
    (
        "a weighted mean of one is halved",
        "tfdisent/losses.py",
        "/ ops.maximum(ops.sum(weight), 1.0)",
        "/ ops.maximum(ops.sum(weight), 2.0)",
        "tests/test_losses.py::test_a_weighted_mean_of_one_is_its_value_and_of_none_zero",
    ),
]

STEPS = [
    unified(
        "the decoder does not move",
        'Phase(self.generator_loss, [self.encoder, self.decoder], "generators")',
        'Phase(self.generator_loss, [self.encoder], "generators")',
    ),
    unified(
        "Dis moves with the generators",
        'Phase(self.generator_loss, [self.encoder, self.decoder], "generators")',
        'Phase(self.generator_loss, [self.encoder, self.decoder, self.discriminator], "generators")',
    ),
    unified(
        "Dis moves first",
        'phases.append(Phase(self.discriminator_loss, [self.discriminator], "discriminators"))',
        'phases.insert(0, Phase(self.discriminator_loss, [self.discriminator], "discriminators"))',
    ),
    unified(
        "Dis learns at the generators' rate",
        'c.learning_rate if player == "generators" else c.discriminator_learning_rate',
        "c.learning_rate",
        STEP,
    ),
    (
        "rates fall from the first step",
        "tfdisent/training/system.py",
        "warmup_steps=constant",
        "warmup_steps=0",
        f"{SYSTEM}::test_rates_stay_and_then_fall_to_zero_over_the_last_steps",
    ),
    unified(
        "averages of the encoder alone",
        "self.track_averages([self.encoder, self.decoder], config.average_momentum)",
        "self.track_averages([self.encoder], config.average_momentum)",
        STEP,
    ),
    unified(
        "the source's code is the target's",
        'chosen[f"{name}_code"] = ops.one_hot(index,',
        'chosen[f"{name}_code"] = ops.one_hot(ops.cast(drawn["target_modality"], "int32"),',
        PASS,
    ),
    unified(
        "the source is of the target modality",
        'index = ops.cast(drawn[f"{name}_modality"], "int32")',
        'index = ops.cast(drawn["target_modality"], "int32")',
        PASS,
    ),
    unified(
        "what is missing counts",
        'chosen["weight"] *= ops.sum(drawn["available"] * chosen[f"{name}_code"], axis=1)',
        'chosen["weight"] *= ops.sum(chosen[f"{name}_code"], axis=1)',
        PASS,
    ),
    unified(
        "the target is drawn with the source",
        "wanted = ops.where(available > 0, noise[1] + 1.0, 0.0)",
        "wanted = ops.where(available > 0, noise[0] + dealt, 0.0)",
        f"{SYSTEM}::test_over_many_steps_all_pairs_are_drawn_equally_often_at_every_place",
    ),
    unified(
        "sources are drawn, not dealt",
        "ops.argmax(ops.where(available > 0, noise[0] + dealt, -1.0), axis=1)",
        "ops.argmax(ops.where(available > 0, noise[0], -1.0), axis=1)",
        f"{SYSTEM}::test_each_modality_is_the_source_equally_often",
    ),
    unified(
        "the first modalities have the odd ones of a batch",
        "dealt = (order + keras.random.randint((), 0, num_modalities, seed=seed)) % num_modalities",
        "dealt = order % num_modalities",
        f"{SYSTEM}::test_in_a_batch_that_does_not_divide_no_modality_has_the_odd_one_always",
    ),
    unified(
        "a target that is missing is drawn",
        "wanted = ops.where(available > 0, noise[1] + 1.0, 0.0)",
        "wanted = noise[1] + 1.0",
        f"{SYSTEM}::test_only_available_modalities_are_drawn_and_all_of_them",
    ),
]

PIX2PIX = [
    baselines(
        "Pix2Pix's discriminator without its source",
        "scores = judge(beside(y, x), training=True)",
        "scores = judge(beside(y, 0.0 * x), training=True)",
    ),
    baselines(
        "Pix2Pix's generated slice without its source",
        'judge(beside(carried[f"generated_{k}"], x), training=True)',
        'judge(beside(carried[f"generated_{k}"], 0.0 * x), training=True)',
    ),
    baselines(
        "Pix2Pix's generator without its source beside",
        "scores = judge(beside(image, x), training=True)",
        "scores = judge(beside(image, 0.0 * x), training=True)",
    ),
    baselines(
        "Pix2Pix's translation compared with the source",
        "translation.append(weighted_mean(self.translation_error(image, y, pair), weight))",
        "translation.append(weighted_mean(self.translation_error(image, x, pair), weight))",
    ),
    baselines(
        "Pix2Pix's translation without its weight",
        "translation = self.config.translation_weight * pairs",
        "translation = pairs",
    ),
    baselines(
        "Pix2Pix's total is a mean over pairs",
        "pairs = len(self.config.pairs)\n",
        "pairs = 1\n",
    ),
    baselines(
        "Pix2Pix's discriminator is not slowed by a half",
        'weighted_mean(0.5 * loss, pair["weight"])',
        'weighted_mean(loss, pair["weight"])',
    ),
    baselines(
        "Pix2Pix's generator makes D say generated",
        "adversarial.append(weighted_mean(binary_cross_entropy(scores, 1.0), weight))",
        "adversarial.append(weighted_mean(binary_cross_entropy(scores, 0.0), weight))",
    ),
    baselines(
        "Pix2Pix's target is its source",
        '"target": image[own, :, :, j : j + 1]',
        '"target": image[own, :, :, i : i + 1]',
        f"{BASELINE}::test_a_pair_gets_the_whole_batch_or_its_share_of_it",
    ),
    baselines(
        "Pix2Pix counts who lacks the source",
        '"weight": available[own, i] * available[own, j]',
        '"weight": available[own, j]',
        f"{BASELINE}::test_a_pair_gets_the_whole_batch_or_its_share_of_it",
    ),
    baselines(
        "pairs share the first share of the batch",
        "own = slice(k, None, every)",
        "own = slice(0, None, every)",
        f"{BASELINE}::test_a_pair_gets_the_whole_batch_or_its_share_of_it",
    ),
    baselines(
        "Pix2Pix averages its discriminators",
        "self.track_averages(self.generators, config.average_momentum)",
        "self.track_averages(self.discriminators, config.average_momentum)",
        BASELINE_STEP,
    ),
]

TCMGAN = [
    baselines(
        "TC-MGAN's generator lowers D's score",
        '"g_adversarial": weighted_mean(-summed(scores), weight)',
        '"g_adversarial": weighted_mean(summed(scores), weight)',
    ),
    baselines(
        "TC-MGAN's D raises the score of what is generated",
        "weighted_mean(scores_generated - scores, weight)",
        "weighted_mean(scores - scores_generated, weight)",
    ),
    baselines(
        "TC-MGAN's scores are means over the map",
        "return ops.sum(scores, axis=(1, 2, 3))",
        "return ops.mean(scores, axis=(1, 2, 3))",
    ),
    baselines(
        "TC-MGAN's translation is a mean over pixels",
        "error = height * width * self.translation_error(generated, y, batch)",
        "error = self.translation_error(generated, y, batch)",
    ),
    baselines(
        "the penalty between images exchanged",
        "share * y + (1.0 - share) * generated",
        "share * generated + (1.0 - share) * y",
    ),
    baselines(
        "the penalty on the source too",
        "lambda image: self.discriminator(beside(image, x), training=True)[0],",
        "lambda image: self.discriminator(beside(image, image), training=True)[0],",
    ),
    baselines("the penalty pulls the norm to 0", "return ops.square(norm - 1.0)", "return ops.square(norm)"),
    baselines(
        "the penalty's gradient is not finite at 0",
        "axis=(1, 2, 3)) + 1e-12)",
        "axis=(1, 2, 3)))",
        f"{BASELINE}::test_the_gradient_penalty_of_a_critic_that_says_nothing_can_be_learnt_from",
    ),
    baselines(
        "the penalty's weight is the modality's",
        '"gradient_penalty": c.gradient_penalty_weight,',
        '"gradient_penalty": c.modality_weight,',
    ),
    baselines(
        "TC-MGAN's D learns the modality of what is generated",
        "modality, _ = ops.split(modality, 2)",
        "_, modality = ops.split(modality, 2)",
    ),
    baselines(
        "a modality's loss is a mean over modalities",
        "return logits.shape[-1] * binary_cross_entropy(logits, code)",
        "return binary_cross_entropy(logits, code)",
    ),
    baselines(
        "the segmentor's shares exchanged",
        "SEGMENTOR_SHARES = (0.7, 0.3)",
        "SEGMENTOR_SHARES = (0.3, 0.7)",
    ),
    baselines(
        "the tumour's consistency without its weight",
        "scaled = scaled_gradient(generated, c.segmentation_weight / on_generated)",
        "scaled = generated",
        BASELINE_GRADIENTS,
    ),
    baselines(
        "the tumour's consistency does not reach the generator",
        "scaled = scaled_gradient(generated, c.segmentation_weight / on_generated)",
        "scaled = ops.stop_gradient(generated)",
        BASELINE_GRADIENTS,
    ),
    baselines(
        "the segmentor sees real slices alone",
        "for image in (scaled, y):",
        "for image in (y, y):",
    ),
    baselines(
        "TC-MGAN moves its generator first",
        '            Phase(self.discriminator_loss, [self.discriminator], "discriminators"),\n'
        '            Phase(self.generator_loss, generators, "generators"),\n',
        '            Phase(self.generator_loss, generators, "generators"),\n'
        '            Phase(self.discriminator_loss, [self.discriminator], "discriminators"),\n',
    ),
    baselines(
        "the segmentor does not move",
        "generators.append(self.segmentor)",
        "pass",
    ),
    baselines(
        "TC-MGAN counts who lacks the source",
        '"weight": available[:, source] * ops.sum(available * code, axis=1)',
        '"weight": ops.sum(available * code, axis=1)',
        f"{BASELINE}::test_a_subject_without_the_source_counts_for_nothing_in_tcmgan",
    ),
    baselines(
        "TC-MGAN's source is drawn as a target",
        "ops.where(available * is_target > 0, noise,",
        "ops.where(available > 0, noise,",
        f"{BASELINE}::test_targets_are_drawn_among_the_other_modalities_equally_often",
    ),
    baselines(
        "TC-MGAN's rate falls at once",
        "DECAY = {0.3: 0.5, 0.6: 0.25, 0.9: 0.05}",
        "DECAY = {0.1: 0.5, 0.6: 0.25, 0.9: 0.05}",
        f"{BASELINE}::test_the_learning_rate_falls_at_fractions_of_the_training",
    ),
    (
        "the Dice loss without its smoothing",
        "tfdisent/losses.py",
        "return (2.0 * intersection + smooth) / (sizes + smooth)",
        "return 2.0 * intersection / sizes",
        BASELINE_TERMS,
    ),
]

MEASURES = [
    evaluation(
        "translations are measured with the live weights",
        "    with model.averaged():\n        count",
        "    if True:\n        count",
    ),
    evaluation(
        "live weights make the pictures of translations",
        "    with model.averaged():\n        for i, j in model.pairs:",
        "    if True:\n        for i, j in model.pairs:",
        PICTURES,
    ),
    slices("the brain's region is ignored", '(("", None), ("_brain", inside))', '(("", None), ("_brain", None))'),
    slices(
        "the brain's region is ignored in SSIM",
        "measure.ssim(ours, truth, 1.0, region)",
        "measure.ssim(ours, truth, 1.0)",
        SSIM,
    ),
    slices("PSNR of range 2", "measure.psnr(ours, truth, 1.0, region)", "measure.psnr(ours, truth, 2.0, region)"),
    slices("SSIM of range 2", "measure.ssim(ours, truth, 1.0, region)", "measure.ssim(ours, truth, 2.0, region)", SSIM),
    slices(
        "errors on the scale of [-1, 1]",
        "return (np.asarray(image, np.float64) + 1) / 2",
        "return np.asarray(image, np.float64)",
    ),
    slices(
        "the brain is what is brighter than the corner",
        "(np.abs(image - image[:, :1, :1]) > TOLERANCE)",
        "((image - image[:, :1, :1]) < -TOLERANCE)",
    ),
    evaluation(
        "translations compared with their source",
        'f"{names[i]} to {names[j]}", *(test["image"][rows, ..., k] for k in (i, j))',
        'f"{names[i]} to {names[j]}", *(test["image"][rows, ..., k] for k in (j, i))',
    ),
    evaluation("self-translations are measured", "if i == j or not len(rows):", "if not len(rows):", SSIM),
    evaluation(
        "`dice_alone` from all modalities",
        'add("alone", names[i], of_one[i], image[..., [i]], truth, subject)',
        'add("alone", names[i], of_all, image, truth, subject)',
        DICE,
    ),
    evaluation(
        "`dice_alone` of each modality by the first one's segmentor",
        'add("alone", names[i], of_one[i], image',
        'add("alone", names[i], of_one[0], image',
        DICE,
    ),
    evaluation(
        "the slices made are all real",
        "image[..., j] if i == j else others[j]",
        "image[..., j]",
        DICE,
    ),
    evaluation(
        "errors of the lesion are those elsewhere",
        'regions = {"lesion": lesion,',
        'regions = {"lesion": ~lesion,',
        LESION,
    ),
    evaluation(
        "elsewhere is the whole brain",
        '"elsewhere": inside & ~lesion',
        '"elsewhere": inside',
        LESION,
    ),
    evaluation(
        "anatomies of subjects are those of a slice with itself",
        "for several in (anatomy, elsewhere))",
        "for several in (anatomy, anatomy[1:] + anatomy[:1]))",
        ANATOMY,
    ),
    evaluation("the sum of errors is their mean", "* pixels for pair", "for pair"),
    evaluation(
        "the lookup table's slices are the source",
        "shown.setdefault(kind, {})[j] = one",
        "shown.setdefault(kind, {})[j] = image[..., j]",
        DICE,
    ),
    (
        "the lookup table is fitted outside of the brain too",
        "tfdisent/evaluation/intensity_maps.py",
        "(unit(image[among][..., k])[inside[among]] for k in pair)",
        "(unit(image[among][..., k]).ravel() for k in pair)",
        "tests/evaluation/test_intensity_maps.py::test_a_map_of_a_constant_contrast_is_the_mean_whatever_it_is_asked",
    ),
]

SELF = f"{SYSTEM}::test_self_translations_are_left_out_where_there_is_another_modality"

DRAWS = [
    unified(
        "self-translations stay",
        "if not self.config.self_translations:",
        "if self.config.self_translations is None:",
        SELF,
    ),
    unified(
        "self-translations are left out of the source that was not taken",
        'batch.get("source_modality", source), num_modalities',
        "source, num_modalities",
        SELF,
    ),
]

MUTATIONS = [*DRAWS, *TRANSLATION, *DISENTANGLEMENT, *ADVERSARIAL, *STEPS, *PIX2PIX, *TCMGAN, *MEASURES]
