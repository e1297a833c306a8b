"""Wrong lines of the margin system, of what it is compared with and of its evaluation."""

SYSTEM = "tfdisent/systems/margin.py"
BASELINES = "tfdisent/baselines/margin.py"
EVALUATION = "tfdisent/evaluation/margin.py"
MISSING = "tfdisent/evaluation/missing_inputs.py"
SEGMENTOR = "tfdisent/downstream/segmentation.py"
SEGMENTORS = "tests/downstream/test_segmentation.py"
GOLDEN = "tests/systems/test_margin_golden.py"
TERMS = f"{GOLDEN}::test_totals_and_terms_are_those_of_the_plain_statement"
GRADIENTS = f"{GOLDEN}::test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise"
STEP = f"{GOLDEN}::test_two_steps_move_every_variable_and_average_as_the_plain_statement_does"
OURS = "tests/systems/test_margin.py"
PARTNERS = f"{OURS}::test_p_and_q_are_never_of_one_subject_and_q_has_the_modality"
VERBS = f"{OURS}::test_verbs_do_not_see_what_is_missing"
MASKED = f"{OURS}::test_masked_background_has_no_anatomy_and_the_rest_is_as_without_the_mask"
FUSION = f"{OURS}::test_fusion_is_maximum_mean_and_minimum_of_what_is_there"
EMPTY = f"{OURS}::test_fusion_does_not_see_what_is_missing_and_is_zero_where_there_is_nothing"
TYPICAL = f"{OURS}::test_typical_codes_are_means_of_what_is_there"
LOOK = f"{OURS}::test_a_contrast_that_is_there_is_drawn_in_its_own_look_and_a_missing_one_in_the_typical"
COMPARED = "tests/baselines/test_margin.py"
LOSSES = "tfdisent/losses.py"
COSINES = "tests/test_losses.py"
LAYER = "tfdisent/layers/convolution.py"
APPLY = "tfdisent/apply/model.py"
RESULTS = "tfdisent/apply/results.py"
SEGMENT = f"{OURS}::test_labels_are_those_of_the_fused_anatomy_of_what_is_there_and_the_rest_is_background"
ADVERSARIAL = f"{COMPARED}::test_the_discriminator_tells_the_modality_and_the_encoder_makes_it_say_none"
MEASURED = "tests/evaluation/test_margin.py"


def system(name, old, new, test=TERMS):
    return name, SYSTEM, old, new, test


def baselines(name, old, new, test=ADVERSARIAL):
    return name, BASELINES, old, new, test


def evaluation(name, old, new, test):
    return name, EVALUATION, old, new, f"{MEASURED}::{test}"


def missing(name, old, new, test):
    return name, MISSING, old, new, f"tests/evaluation/test_missing_inputs.py::{test}"


OBJECTIVE = [
    system(
        "reconstructions compared with the anatomy's slice",
        "absolute_error(drawn[i, j], images[j])",
        "absolute_error(drawn[i, j], images[i])",
    ),
    system("cross reconstruction counts i = j", "for i, j in pairs if i != j]", "for i, j in pairs]"),
    system("weight of self_reconstruction", 'n": c.self_weight,', 'n": c.cross_weight,'),
    system("weight of cross_reconstruction", 'n": c.cross_weight,', 'n": c.self_weight,'),
    system("weight of latent", '"latent": c.latent_weight,', '"latent": 1.0,'),
    system(
        "weight of anatomy_similarity",
        '"anatomy_similarity": self.anatomy_similarity_weight(),',
        '"anatomy_similarity": c.modality_similarity_weight,',
    ),
    system(
        "weight of modality_similarity",
        '"modality_similarity": c.modality_similarity_weight,',
        '"modality_similarity": c.anatomy_similarity_weight,',
    ),
    system("weight of weight_decay", '"weight_decay": c.weight_decay,', '"weight_decay": 1.0,'),
    system("decay of the whole square", "0.5 * sum(ops.sum(", "sum(ops.sum("),
    system("Eq. 1 on self-reconstructions alone", "compared = own if c.latent_self_only else pairs", "compared = own"),
    system("Eq. 1 always on all", "compared = own if c.latent_self_only else pairs", "compared = pairs"),
    system("Eq. 1 averages over the code", "self.config.code_dim * absolute_error(one", "absolute_error(one"),
    system("Eq. 1 with the anatomy's code", "absolute_error(one, code[j])", "absolute_error(one, code[i])"),
    system("Eq. 1 encodes all as one modality", "for i in sources]), j, training", "for i in sources]), 0, training"),
    system(
        "no gradient of Eq. 1 into the code of the slice",
        "absolute_error(one, code[j])",
        "absolute_error(one, ops.stop_gradient(code[j]))",
        GRADIENTS,
    ),
    system("looks and anatomies swapped", "(i, j): made[i, :, j]", "(i, j): made[j, :, i]"),
    system(
        "the decoder in inference mode",
        "self.drawings(anatomy, code, training=True)",
        "self.drawings(anatomy, code, training=False)",
    ),
    system(
        "pairs count without the target",
        "weight * available[:, i] * available[:, j] for i, j in of",
        "weight * available[:, i] for i, j in of",
    ),
    system(
        "pairs count without the source",
        "weight * available[:, i] * available[:, j] for i, j in of",
        "weight * available[:, j] for i, j in of",
    ),
]
SIMILARITIES = [
    system("the modality's margin for anatomies", "margin=self.config.anatomy_margin", "margin=0.6"),
    system("the anatomy's margin for modalities", "margin = self.config.modality_margin", "margin = 0.4"),
    system(
        "anatomies of two subjects are to be alike",
        "margin_similarity(one, same_subject, other_subject,",
        "margin_similarity(one, other_subject, same_subject,",
    ),
    system(
        "codes of two modalities are to be alike",
        "margin_similarity(one, same_modality, other_modality,",
        "margin_similarity(one, other_modality, same_modality,",
    ),
    system(
        "the anatomy's anchor is j",
        "margin_similarity(one, same_subject, other_subject,",
        "margin_similarity(same_subject, one, other_subject,",
    ),
    system(
        "the code's anchor is the partner",
        "margin_similarity(one, same_modality, other_modality,",
        "margin_similarity(same_modality, one, other_modality,",
    ),
    system(
        "the anatomy's partner of the first modality",
        'other_subject = ops.take(one, batch["partner"][:, i]',
        'other_subject = ops.take(one, batch["partner"][:, 0]',
    ),
    system(
        "the code's partner of the first modality",
        'same_modality = ops.take(one, batch["partner"][:, i]',
        'same_modality = ops.take(one, batch["partner"][:, 0]',
    ),
    system("hinges without a partner count", "* has_partner[:, i] for i, j in hinges", "for i, j in hinges"),
    system("the partner of j", "* has_partner[:, i] for i, j in hinges", "* has_partner[:, j] for i, j in hinges"),
    system(
        "hinges count without the second slice",
        "available[:, i] * available[:, j] * has_partner",
        "available[:, i] * has_partner",
    ),
    system("f takes the mean", "ops.max_pool(anatomy", "ops.average_pool(anatomy"),
    system("the anatomy is not pooled", "[pooled_anatomy(one, self.config.pool_size)", "[pooled_anatomy(one, 1)"),
    system(
        "p and q of one subject",
        "subject[:, None] != subject[None, :]",
        "subject[:, None] == subject[None, :]",
        PARTNERS,
    ),
    system(
        "q may lack the modality",
        "others[:, :, None] * available[None]",
        "others[:, :, None] * available[:, None]",
        PARTNERS,
    ),
    system(
        "q is always the first",
        "ops.where(fits > 0, noise, -1.0)",
        "fits",
        f"{OURS}::test_every_other_subject_of_a_batch_is_drawn",
    ),
    system("all have a partner", "ops.max(fits, axis=1)", "ops.ones_like(ops.max(fits, axis=1))", PARTNERS),
]
SIMILARITIES += [
    (
        "cosines are distances",
        LOSSES,
        "margin - cosine_similarity(anchor, alike) + cosine_similarity(anchor, other)",
        "margin + cosine_similarity(anchor, alike) - cosine_similarity(anchor, other)",
        f"{COSINES}::test_the_margin_costs_nothing_where_the_alike_is_more_similar_and_something_where_it_is_not",
    ),
    (
        "kernels are mixed for each sample",
        LAYER,
        'outputs = ops.conv(features, kernel, self.strides, padding="same", data_format="channels_last")',
        "outputs = ops.concatenate([ops.conv(features[k : k + 1], kernel, self.strides, padding='same', "
        "data_format='channels_last') for k in range(features.shape[0])])",
        "tests/layers/test_convolution.py::test_kernels_are_mixed_once_a_call_whatever_the_number_of_images",
    ),
]
SIMILARITIES += [
    (
        "all experts start alike",
        LAYER,
        "_another(self.kernel_initializer, k)(shape, dtype=dtype)",
        "self.kernel_initializer(shape, dtype=dtype)",
        "tests/layers/test_convolution.py::test_experts_start_with_values_of_their_own_which_the_seed_decides",
    ),
]
WHAT_IS_MISSING = [
    system(
        "what is missing is shown",
        "ops.where(there[:, None, None, :] > 0, image, BACKGROUND)",
        "image",
        f"{GOLDEN}::test_a_pass_is_the_slices_with_background_where_they_are_missing",
    ),
    system(
        "batch statistics of all",
        'image), "weight": weight}',
        'image), "weight": ops.ones_like(weight)}',
        f"{OURS}::test_a_subject_without_any_modality_counts_for_nothing",
    ),
    system("typical codes of all", "ops.sum(available[..., None] * code, axis=0)", "ops.sum(code, axis=0)", TYPICAL),
    system("a typical code fades where none is there", "rate = there * ops.maximum(", "rate = ops.maximum(", TYPICAL),
    system(
        "typical codes move in inference",
        "        if training:\n            code = ops.cast",
        "        if True:\n            code = ops.cast",
        TYPICAL,
    ),
    system(
        "the first typical code is zero", "1.0 / (self.count + 1.0), 0.01)", "1.0 / (self.count + 2.0), 0.01)", TYPICAL
    ),
    system(
        "anatomies of what is missing",
        "available[:, :, None, None, None] > 0, anatomy, 0.0)",
        "available[:, :, None, None, None] >= 0, anatomy, 0.0)",
        VERBS,
    ),
    system(
        "codes of what is missing",
        "available[:, :, None] > 0, code, 0.0)",
        "available[:, :, None] >= 0, code, 0.0)",
        VERBS,
    ),
]
VERB = [
    system("the minimum is the maximum", "[highest, mean, lowest]", "[highest, mean, highest]", FUSION),
    system("the mean of all", "/ ops.maximum(number, 1.0)\n    lowest", "/ 3.0\n    lowest", FUSION),
    system(
        "the maximum sees what is missing", "ops.where(there, anatomy, -1.0)", "ops.where(there, anatomy, 2.0)", FUSION
    ),
    system(
        "the minimum sees what is missing", "ops.where(there, anatomy, 2.0)", "ops.where(there, anatomy, -1.0)", FUSION
    ),
    system(
        "nothing is fused to minus one",
        "ops.where(number > 0, ops.concatenate",
        "ops.where(number >= 0, ops.concatenate",
        EMPTY,
    ),
    system(
        "the typical look always",
        "own = ops.where(available[:, :, None] > 0, found",
        "own = ops.where(available[:, :, None] > 1, found",
        LOOK,
    ),
    system(
        "the own look always",
        "own = ops.where(available[:, :, None] > 0, found",
        "own = ops.where(available[:, :, None] >= 0, found",
        LOOK,
    ),
    system(
        "completed from the maximum", "_, mean, _ = ops.split(fused(found", "mean, _, _ = ops.split(fused(found", LOOK
    ),
    system(
        "rows and columns of the cross reconstruction",
        "[ops.stack([drawn[i, j] for j in every], axis=1) for i in every]",
        "[ops.stack([drawn[j, i] for j in every], axis=1) for i in every]",
        f"{OURS}::test_cross_reconstruction_draws_the_anatomy_of_the_row_in_the_look_of_the_column",
    ),
    system(
        "missing rows are drawn",
        "there = available[:, :, None] * available[:, None, :]",
        "there = 0 * available[:, :, None] + available[:, None, :]",
        VERBS,
    ),
]
VERB += [
    system(
        "labels from the anatomy of what is missing too",
        'self.fuse(self.encode_all(image, available)["anatomy"], available)\n        return with',
        'self.fuse(self.encode_all(image, available)["anatomy"])\n        return with',
        SEGMENT,
    ),
    (
        "the background after the labels",
        LOSSES,
        "1.0 - ops.sum(shares, axis=-1, keepdims=True), shares]",
        "shares, 1.0 - ops.sum(shares, axis=-1, keepdims=True)]",
        SEGMENT,
    ),
    system(
        "a segmentor of images",
        "expected = (*c.image_shape[:2], 3 * c.anatomy_channels)",
        "expected = segmentor.image_shape",
        f"{OURS}::test_a_segmentor_of_other_images_or_labels_is_refused_and_so_is_segmenting_without_one",
    ),
    system(
        "the exported anatomy without its background",
        'made["anatomy"] = with_background(made["anatomy"])',
        "pass",
        f"{OURS}::test_the_exported_anatomy_has_the_background_first",
    ),
]
OPTIONS = [
    system("nothing is masked in training", "return [inside * self.anatomy(one", "return [self.anatomy(one"),
    system("background of one modality is masked", "ops.any(image > BACKGROUND", "ops.all(image > BACKGROUND", MASKED),
    system(
        "a slice alone is not masked",
        "self.anatomy(image, index) * self.foreground(image)",
        "self.anatomy(image, index)",
        MASKED,
    ),
    system("the mask always", "if not self.config.mask_background:", "if False:"),
    system(
        "the similarity starts at once",
        "ops.clip(done / c.anatomy_similarity_delay - 1.0, 0.0, 1.0)",
        "ops.clip(done / c.anatomy_similarity_delay, 0.0, 1.0)",
        f"{OURS}::test_the_anatomies_similarity_is_delayed_and_then_grows_to_its_weight",
    ),
    system(
        "the similarity outgrows its weight",
        "ops.clip(done / c.anatomy_similarity_delay - 1.0, 0.0, 1.0)",
        "ops.maximum(done / c.anatomy_similarity_delay - 1.0, 0.0)",
        f"{OURS}::test_the_anatomies_similarity_is_delayed_and_then_grows_to_its_weight",
    ),
    system(
        "the rate does not fall",
        "falling(c.learning_rate, c.learning_rate_decay, c.steps)",
        "c.learning_rate",
        f"{OURS}::test_the_rate_falls_to_zero_in_the_last_part_of_training",
    ),
    system(
        "features of half the resolution at the end",
        "0 if not config.level_0 else -1, -1)",
        "0, -1)",
        f"{OURS}::test_with_level_0_an_anatomy_sees_single_pixels",
    ),
    system("no bound of the gradient", "global_clipnorm=bound", "global_clipnorm=None", STEP),
    system(
        "the bound is ten times as far",
        "bound = c.clip_norm and c.clip_norm /",
        "bound = c.clip_norm and 10 * c.clip_norm /",
        STEP,
    ),
    system("no AMSGrad", "amsgrad=c.amsgrad", "amsgrad=False", f"{OURS}::test_the_optimizer_is_the_codes"),
    system(
        "one encoder for the modalities of Conv",
        "self.anatomy_encoders[0 if self.config.conditional else modality]",
        "self.anatomy_encoders[0]",
    ),
    system(
        "one modality encoder for Conv",
        "self.modality_encoders[0 if self.config.conditional else modality]",
        "self.modality_encoders[0]",
    ),
]
COMPARISON = [
    baselines(
        "the encoder helps the discriminator",
        "softmax_cross_entropy(logits, alike)",
        "-softmax_cross_entropy(logits, alike)",
    ),
    baselines(
        "weight of the encoder in Adv", '"g_adversarial": self.config.adversarial_weight', '"g_adversarial": 1.0'
    ),
    baselines(
        "the truth by subjects",
        "ops.repeat(ops.arange(c.num_modalities), ops.shape(available)[0], axis=0)",
        "ops.tile(ops.arange(c.num_modalities), (ops.shape(available)[0],))",
    ),
    baselines(
        "the discriminator judges what is missing",
        '"d_adversarial": weighted_mean(softmax_cross_entropy(logits, code), weight)',
        '"d_adversarial": weighted_mean(softmax_cross_entropy(logits, code), ops.ones_like(weight))',
    ),
    baselines(
        "the encoder hides what is missing",
        "weighted_mean(softmax_cross_entropy(logits, alike), weight)",
        "weighted_mean(softmax_cross_entropy(logits, alike), ops.ones_like(weight))",
    ),
    baselines("accuracy of all", '"d_accuracy": weighted_mean(found, weight)', '"d_accuracy": ops.mean(found)'),
    baselines(
        "the discriminator moves the encoders",
        "self.discriminator_loss, [self.discriminator]",
        "self.discriminator_loss, self.networks",
        f"{COMPARED}::test_a_player_moves_its_own_networks_and_leaves_the_others_bit_for_bit",
    ),
    baselines(
        "Adv with the similarity loss",
        '{"conditional": False, **NO_SIMILARITY}),\n    Method("conv_na"',
        '{"conditional": False}),\n    Method("conv_na"',
        f"{COMPARED}::test_the_logs_of_a_method_are_its_terms",
    ),
]
MEASUREMENT = [
    evaluation(
        "probes are asked about their own subjects",
        'train = np.isin(codes["subject"], subjects[::2])',
        'train = codes["slice"] % 2 == 0',
        "test_probes_are_asked_about_subjects_that_they_were_not_trained_on",
    ),
    evaluation(
        "the linear probe alone counts",
        "entry(max(found.values()), int((~train[chosen]).sum())",
        'entry(found["linear"], int((~train[chosen]).sum())',
        "test_a_modality_that_no_linear_probe_finds_is_found_by_the_network",
    ),
    evaluation(
        "both leaks from the code",
        'zip(names, ("anatomy", "code"), strict=True)',
        'zip(names, ("code", "code"), strict=True)',
        "test_of_ideal_codes_the_modality_is_told_from_its_code_alone",
    ),
    evaluation(
        "retrieval of the least similar",
        "np.argmax(_cosines(codes",
        "np.argmin(_cosines(codes",
        "test_an_anatomy_of_the_subject_finds_it_in_every_modality_and_a_collapsed_one_does_not",
    ),
    evaluation(
        "retrieval within a modality",
        '(np.flatnonzero(codes["modality"] == k) for k in (i, j))',
        '(np.flatnonzero(codes["modality"] == k) for k in (i, i))',
        "test_an_anatomy_of_the_subject_finds_it_in_every_modality_and_a_collapsed_one_does_not",
    ),
    evaluation(
        "margins of i = j count",
        "if n is None or j == i:",
        "if n is None:",
        "test_all_margins_hold_between_ideal_codes_and_none_where_the_two_are_swapped",
    ),
    evaluation(
        "margins the wrong way round",
        "_cosine(s[p], s[n]) - _cosine(s[p], s[q])",
        "_cosine(s[p], s[q]) - _cosine(s[p], s[n])",
        "test_all_margins_hold_between_ideal_codes_and_none_where_the_two_are_swapped",
    ),
    evaluation(
        "entropy without its bound",
        " / math.log(len(share))",
        "",
        "test_the_entropy_of_channels_is_zero_where_the_anatomy_has_collapsed",
    ),
    evaluation(
        "the first slice of a stack",
        "image[..., config.neighbours ::",
        "image[..., 0 ::",
        "test_perfect_reconstructions_are_perfect_by_the_centre_slice_and_grey_ones_are_not",
    ),
    evaluation(
        "pairs with a slice that is missing",
        "some = exists[:, i] & exists[:, j]",
        "some = exists[:, i] | exists[:, j]",
        "test_what_is_missing_is_not_measured",
    ),
    evaluation(
        "what is missing in the look of what is there",
        "np.tile(looks[missing], (len(truth), 1))",
        "np.tile(looks[[some[0]] * len(missing)], (len(truth), 1))",
        "test_from_every_subset_what_is_missing_is_drawn_and_the_subject_is_found",
    ),
    evaluation(
        "subsets with the anatomies of all",
        "np.mean([alone[i] for i in some], axis=0)",
        "np.mean(alone, axis=0)",
        "test_what_a_model_draws_of_a_subset_is_what_its_verb_gives",
    ),
    evaluation(
        "windows of means alone",
        "split.max((2, 4)).reshape(flat)",
        "split.mean((2, 4)).reshape(flat)",
        "test_codes_hold_maxima_and_means_of_windows_and_shares_in_the_brain",
    ),
]

MEASUREMENT += [
    evaluation(
        "the whole slice as the brain",
        "inside, made = brain(truth), reconstructed(model, batch)",
        "inside, made = brain(truth) | True, reconstructed(model, batch)",
        "test_a_background_that_is_drawn_well_does_not_make_up_for_the_brain",
    ),
    evaluation(
        "the leak of the maxima of one modality",
        'anatomy = found["anatomy"][some, i]',
        'anatomy = found["anatomy"][some, 0]',
        "test_the_number_of_the_modality_reaches_the_anatomy_through_the_kernels_alone_and_a_probe_finds_it",
    ),
    missing(
        "the segmentor of whole sets is kept",
        'KEPT = "fused_dropout"',
        'KEPT = "fused"',
        "test_the_segmentor_that_knows_every_subset_is_kept",
    ),
    (
        "missing contrasts are those that are there",
        APPLY,
        "for name in model.targets if name not in given)",
        "for name in model.targets if name in given)",
        "tests/apply/test_model.py::test_missing_stands_alone_for_a_model_whose_targets_are_inputs",
    ),
    (
        "maps are written for each target",
        RESULTS,
        "if output.per_target else found:",
        "if output.per_target else False:",
        "tests/apply/test_apply.py::test_what_no_target_changes_is_written_once_and_alone_where_none_is_named",
    ),
]
DOWNSTREAM = [
    missing(
        "what is missing counts in the fusion",
        'encode_all(batch["image"], exists)["anatomy"]\n            return ops',
        'encode_all(batch["image"], exists)["anatomy"]\n            exists = 0 * exists + 1\n            return ops',
        "test_of_one_modality_the_fused_anatomy_is_that_of_it_alone",
    ),
    missing(
        "images with what is missing",
        "return np.where(there, image, instead)",
        "return np.where(there | True, image, instead)",
        "test_what_a_network_is_given_does_not_depend_on_what_is_missing",
    ),
    missing(
        "the mean of all positions",
        "np.abs(position[:, None] - self._bins)",
        "np.abs(0 * position[:, None] - self._bins)",
        "test_the_average_is_that_of_the_training_slices_at_each_position",
    ),
    missing(
        "average as zero",
        "self._average(batch) if kind.average else BACKGROUND",
        "BACKGROUND",
        "test_the_average_is_that_of_the_training_slices_at_each_position",
    ),
    missing(
        "no dropout",
        "for one in chosen]) if kind.dropout else whole",
        "for one in chosen]) if False else whole",
        "test_networks_learn_from_all_modalities_or_where_they_are_to_from_every_subset",
    ),
    missing(
        "dropout for all",
        "for one in chosen]) if kind.dropout else whole",
        "for one in chosen]) if True else whole",
        "test_networks_learn_from_all_modalities_or_where_they_are_to_from_every_subset",
    ),
    missing(
        "anatomies of modalities and channels mixed up",
        "np.moveaxis(ops.convert_to_numpy(found), 1, 3).reshape(*image.shape[:3], -1)",
        "np.moveaxis(ops.convert_to_numpy(found), 1, 4).reshape(*image.shape[:3], -1)",
        "test_networks_learn_from_all_modalities_or_where_they_are_to_from_every_subset",
    ),
    missing(
        "learnt from slices without a modality",
        "np.flatnonzero(there[:, self.known].all(axis=1)",
        "np.flatnonzero(there[:, self.known].any(axis=1)",
        "test_training_slices_without_all_modalities_are_not_learnt_from",
    ),
    missing(
        "a modality missing is the only one there",
        "tuple(i for i in self.known if i != k) for k",
        "(k,) for k",
        "test_what_shows_a_class_decides_its_dice_and_nested_regions_are_those_of_brats",
    ),
    missing(
        "Dice of slices",
        "members = [subject == one for one in np.unique(subject)]",
        "members = list(np.eye(len(subject), dtype=bool))",
        "test_dice_is_of_subjects_as_wholes",
    ),
    missing(
        "nested regions count in the mean",
        "[found[name] for name in classes]) for key",
        "list(found.values())) for key",
        "test_what_shows_a_class_decides_its_dice_and_nested_regions_are_those_of_brats",
    ),
    missing(
        "the tumour's core with its oedema",
        '"TC": ("necrosis", "enhancing")',
        '"TC": ("necrosis", "oedema")',
        "test_what_shows_a_class_decides_its_dice_and_nested_regions_are_those_of_brats",
    ),
    missing(
        "PET of the slice inside the brain",
        'means[ending, some][f"{metric}_brain"]',
        "means[ending, some][metric]",
        "test_pet_is_measured_on_the_whole_slice_and_in_the_brain",
    ),
    missing(
        "slices in place of subjects",
        "return rows[np.isin(subject, chosen)]",
        "return evenly(rows, MOST_SLICES)",
        "test_few_whole_subjects_are_measured_where_there_are_many",
    ),
    (
        "NVNet's Dice without squares",
        SEGMENTOR,
        "ops.sum(ops.square(found), axes)",
        "ops.sum(found, axes)",
        f"{SEGMENTORS}::test_nvnets_losses_are_dice_with_squares_and_a_tenth_of_the_branchs",
    ),
    (
        "NVNet's branch counts as the labels do",
        SEGMENTOR,
        "BRANCH_WEIGHT = 0.1",
        "BRANCH_WEIGHT = 1.0",
        f"{SEGMENTORS}::test_nvnets_losses_are_dice_with_squares_and_a_tenth_of_the_branchs",
    ),
    (
        "segmentors learn from images as they are",
        "tfdisent/downstream/network.py",
        'change(columns["image"], generator)',
        'change(columns["image"], generator) * 0 + columns["image"][..., -2:]',
        f"{SEGMENTORS}::test_what_a_change_makes_of_the_images_is_learnt_from",
    ),
]

MUTATIONS = [
    *OBJECTIVE,
    *SIMILARITIES,
    *WHAT_IS_MISSING,
    *VERB,
    *OPTIONS,
    *COMPARISON,
    *MEASUREMENT,
    *DOWNSTREAM,
]
