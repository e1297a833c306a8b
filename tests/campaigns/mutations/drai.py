"""Wrong lines of DRAI, of what it is compared with, and of what both are built on."""

DRAI = "tfdisent/systems/drai.py"
BASELINES = "tfdisent/baselines/drai.py"
GOLDEN = "tests/systems/test_drai_golden.py"
GOLDEN_BASELINES = "tests/baselines/test_drai_golden.py"
TERMS = f"{GOLDEN}::test_totals_and_terms_of_drai_dai_and_the_ablations_are_those_of_the_plain_statement"
GRADIENTS = f"{GOLDEN}::test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise"
STEP = f"{GOLDEN}::test_two_steps_move_every_variable_and_average_as_the_plain_statement_does"
BASELINE_TERMS = f"{GOLDEN_BASELINES}::test_totals_and_terms_are_those_of_the_plain_statement"
BASELINE_GRADIENTS = f"{GOLDEN_BASELINES}::test_each_networks_gradient_is_that_of_what_the_paper_has_it_minimise"
BASELINE_STEP = (
    f"{GOLDEN_BASELINES}::test_two_steps_on_images_and_their_transformed_versions_are_those_of_the_plain_statement"
)
SYSTEM = "tests/systems/test_drai.py"
EVALUATION = "tfdisent/evaluation/drai.py"
GOLDEN_EVALUATION = "tests/evaluation/test_drai_golden.py"
IDEAL = f"{GOLDEN_EVALUATION}::test_a_model_without_fault_gets_the_best_of_every_figure"
SWAPPED = f"{GOLDEN_EVALUATION}::test_a_model_with_its_codes_swapped_is_noticed"
FORGETS = f"{GOLDEN_EVALUATION}::test_hybrids_that_do_not_come_back_have_the_distance_of_their_codes"
ONE_CLASS = f"{GOLDEN_EVALUATION}::test_a_model_that_shows_any_class_is_as_often_right_as_chance_has_it"
PICTURES = f"{GOLDEN_EVALUATION}::test_pictures_of_training_show_the_averaged_weights"


def drai(name, old, new, test=TERMS):
    return name, DRAI, old, new, test


def baselines(name, old, new, test=BASELINE_TERMS):
    return name, BASELINES, old, new, test


def evaluation(name, old, new, test=IDEAL):
    return name, EVALUATION, old, new, test


ADVERSARIAL = [
    drai(
        "g_image on x^",
        '"g_image": real(self.image_discriminator(generated, training=True))',
        '"g_image": real(self.image_discriminator(reconstructed, training=True))',
    ),
    drai(
        "g_condition with the wrong condition",
        '"g_condition": real(self.condition_score(generated, t))',
        '"g_condition": real(self.condition_score(generated, batch["mismatched"]))',
    ),
    drai(
        "g_style without the encoder's side",
        '"g_style": real(d_xz([generated, z], training=True)) + fake(d_xz([x, z_hat], training=True))',
        '"g_style": real(d_xz([generated, z], training=True))',
    ),
    drai(
        "g_style's generated pair with the inferred style",
        '"g_style": real(d_xz([generated, z], training=True))',
        '"g_style": real(d_xz([generated, z_hat], training=True))',
    ),
    drai(
        "g_style with the targets of D",
        '"g_style": real(d_xz([generated, z], training=True)) + fake(d_xz([x, z_hat], training=True))',
        '"g_style": fake(d_xz([generated, z], training=True)) + real(d_xz([x, z_hat], training=True))',
    ),
    drai(
        "g_content's real pair with the content of the condition",
        '+ fake(d_xc([x, c_hat], training=True)),\n            "g_cycle"',
        '+ fake(d_xc([x, c], training=True)),\n            "g_cycle"',
    ),
    drai(
        "g_cycle on x~",
        '"g_cycle": real(self.cycle_discriminator(pair(x, reconstructed), training=True))',
        '"g_cycle": real(self.cycle_discriminator(pair(x, generated), training=True))',
    ),
    drai(
        "D_x trained on x^",
        '"d_image": real(d_x(x, training=True)) + fake(d_x(generated, training=True))',
        '"d_image": real(d_x(x, training=True)) + fake(d_x(reconstructed, training=True))',
    ),
    drai("D_xt's negatives count whole, not half", "+ 0.5 * (wrong + fake(self", "+ 1.0 * (wrong + fake(self"),
    drai(
        "D_xt's wrong pair has the right condition",
        'fake(d_xt([features, batch["mismatched"]], training=True))',
        "fake(d_xt([features, t], training=True))",
    ),
    drai(
        "D_xt's wrong pair counts where there is none",
        'wrong = batch["has_mismatch"] * fake(',
        'wrong = 0.0 * batch["has_mismatch"] + fake(',
    ),
    drai(
        "D_xz's fake pair given the inferred style",
        '"d_style": real(d_xz([x, z_hat], training=True)) + fake(d_xz([generated, z], training=True))',
        '"d_style": real(d_xz([x, z_hat], training=True)) + fake(d_xz([generated, z_hat], training=True))',
    ),
    drai(
        "D_xz's real pair given the drawn style",
        '"d_style": real(d_xz([x, z_hat], training=True))',
        '"d_style": real(d_xz([x, z], training=True))',
        f"{SYSTEM}::test_discriminators_that_know_the_truth_have_no_loss",
    ),
    drai(
        "D_xc's fake pair given the inferred content",
        'fake(d_xc([generated, c], training=True)),\n            "d_cycle"',
        'fake(d_xc([generated, c_hat], training=True)),\n            "d_cycle"',
        f"{SYSTEM}::test_discriminators_that_know_the_truth_have_no_loss",
    ),
    drai(
        "D_cycle's real pair is (x, x^)",
        '"d_cycle": real(d_pair(pair(x, x), training=True))',
        '"d_cycle": real(d_pair(pair(x, reconstructed), training=True))',
    ),
    drai(
        "D_cycle's fake pair is (x, x~)",
        "fake(d_pair(pair(x, reconstructed), training=True))",
        "fake(d_pair(pair(x, generated), training=True))",
    ),
    drai("the target of real is 0.9", "return least_squares(scores, 1.0)", "return least_squares(scores, 0.9)"),
]

CODES = [
    drai(
        "c not sampled",
        "return sample(mean, log_variance, noise), mean, log_variance",
        "return mean, mean, log_variance",
    ),
    drai(
        "z^ not sampled",
        'z = sample(*posterior["style"], batch["inferred_style_noise"])',
        'z = posterior["style"][0]',
    ),
    drai(
        "z^ from the posterior of T(x)",
        'z = sample(*posterior["style"], batch["inferred_style_noise"])',
        'z = sample(*posterior["transformed_style"], batch["inferred_style_noise"])',
    ),
    drai(
        "the standard deviation is the variance",
        "return mean + ops.exp(0.5 * log_variance) * noise",
        "return mean + ops.exp(log_variance) * noise",
    ),
    drai(
        "x^ decoded from c",
        "self.decode_both((z, c), (z_hat, c_hat))",
        "self.decode_both((z, c), (z_hat, c))",
    ),
    drai(
        "x~ decoded from z^",
        "self.decode_both((z, c), (z_hat, c_hat))",
        "self.decode_both((z_hat, c), (z_hat, c_hat))",
    ),
    drai(
        "encoders see x twice, and not T(x)",
        'ops.concatenate([batch["image"], batch["transformed"]])',
        'ops.concatenate([batch["image"], batch["image"]])',
    ),
    drai("encoders infer outside of training", "encoder(images, training=True)", "encoder(images, training=False)"),
    drai(
        "style drawn from a uniform distribution",
        '"style": keras.random.normal((size, config.style_dim), seed=seed),\n            "content_noise"',
        '"style": keras.random.uniform((size, config.style_dim), seed=seed),\n            "content_noise"',
        f"{GOLDEN}::test_codes_are_drawn_from_the_standard_normal",
    ),
    drai(
        "one of the flips is the other",
        "lambda image: ops.flip(image, axis=1),",
        "lambda image: ops.flip(image, axis=2),",
        f"{SYSTEM}::test_the_five_transformations_are_numpys",
    ),
    drai(
        "a mismatched condition may match",
        "score = ops.where(differs, noise, -1.0)",
        "score = noise",
        f"{SYSTEM}::test_a_mismatched_condition_is_one_of_the_batch_and_never_a_match",
    ),
]

CONSTRAINTS = [
    drai("code cycle on the real image", "self.code_cycle(generated, z, c)", "self.code_cycle(x, z, c)"),
    drai("code cycle without style", "ops.mean(absolute_error(z_again, z)) + ", ""),
    drai(
        "code cycle on the log variance",
        "c_again, _ = self.content_encoder(generated, training=True)",
        "_, c_again = self.content_encoder(generated, training=True)",
    ),
    drai(
        "code cycle asks for the inferred codes",
        "self.code_cycle(generated, z, c)",
        "self.code_cycle(generated, z_hat, c_hat)",
    ),
    drai(
        "no gradient reversal for F_c",
        "self.content_from_style(self.reverse_gradient(z_mean), training=True)",
        "self.content_from_style(z_mean, training=True)",
        GRADIENTS,
    ),
    drai(
        "no gradient reversal for F_z",
        "self.style_from_content(self.reverse_gradient(c_mean), training=True)",
        "self.style_from_content(c_mean, training=True)",
        GRADIENTS,
    ),
    drai(
        "F_c's target with a gradient",
        "absolute_error(c_predicted, ops.stop_gradient(c_mean))",
        "absolute_error(c_predicted, c_mean)",
        GRADIENTS,
    ),
    drai(
        "F_z's target with a gradient",
        "absolute_error(z_predicted, ops.stop_gradient(z_mean))",
        "absolute_error(z_predicted, z_mean)",
        GRADIENTS,
    ),
    drai(
        "the encoders get no gradient of F_c",
        "self.content_from_style(self.reverse_gradient(z_mean), training=True)",
        "self.content_from_style(ops.stop_gradient(z_mean), training=True)",
        GRADIENTS,
    ),
    drai(
        "F_z is not in the loss",
        "return ops.mean(content_error) + ops.mean(style_error)",
        "return ops.mean(content_error) + 0.0 * ops.mean(style_error)",
    ),
    (
        "the reversal keeps the gradient",
        "tfdisent/layers/stochastic.py",
        "return value - self.scale * (inputs - value)",
        "return value + self.scale * (inputs - value)",
        GRADIENTS,
    ),
    drai(
        "the style term computed on content",
        'change = absolute_error(posterior["style"][0], posterior["transformed_style"][0])',
        'change = absolute_error(posterior["content"][0], posterior["transformed_content"][0])',
    ),
    drai("styles attract", "ops.mean(-change if margin is None", "ops.mean(change if margin is None"),
    drai(
        "the hinge holds from the other side",
        "ops.relu(margin - change)",
        "ops.relu(change - margin)",
        f"{GOLDEN}::test_a_margin_of_style_bounds_its_term_in_the_plain_statement_too",
    ),
    drai(
        "content invariance of the log variances",
        'absolute_error(posterior["content"][0], posterior["transformed_content"][0])\n',
        'absolute_error(posterior["content"][1], posterior["transformed_content"][1])\n',
    ),
    drai(
        "the content term is not weighted",
        'dict.fromkeys(("content_invariance", "style_change"), c.self_supervision_weight)',
        'dict.fromkeys(("style_change",), c.self_supervision_weight)',
    ),
    drai(
        "KL of content from style",
        '"kl_content": gaussian_kl(*posterior["content"])',
        '"kl_content": gaussian_kl(*posterior["style"])',
    ),
    drai(
        "KL of the condition left out of the total",
        '**dict.fromkeys(("kl_style", "kl_content", "kl_condition"), c.kl_weight),',
        '**dict.fromkeys(("kl_style", "kl_content"), c.kl_weight), "kl_condition": 0.0,',
    ),
    drai(
        "KL has the weight of the code cycle",
        '("kl_style", "kl_content", "kl_condition"), c.kl_weight)',
        '("kl_style", "kl_content", "kl_condition"), c.code_cycle_weight)',
    ),
    (
        "KL with the wrong sign of the log variance",
        "tfdisent/losses.py",
        "ops.exp(log_variance) - 1.0 - log_variance)",
        "ops.exp(log_variance) - 1.0 + log_variance)",
        TERMS,
    ),
    (
        "l1 is l2",
        "tfdisent/losses.py",
        "ops.abs(_float32(predicted) - _float32(target))",
        "ops.square(_float32(predicted) - _float32(target))",
        TERMS,
    ),
]

STEPS = [
    drai("discriminators move first", "return [generators, discriminators]", "return [discriminators, generators]"),
    drai(
        "F_c and F_z do not move",
        "generators.networks.extend([self.content_from_style, self.style_from_content])",
        "generators.networks.extend([])",
    ),
    drai(
        "the content encoder does not move",
        'GENERATORS = ("condition_encoder", "generator", "style_encoder", "content_encoder")',
        'GENERATORS = ("condition_encoder", "generator", "style_encoder")',
    ),
    drai(
        "discriminators move with the generators",
        'Phase(self.generator_loss, self.networks(GENERATORS), "generators")',
        'Phase(self.generator_loss, self.networks((*GENERATORS, "image_discriminator")), "generators")',
    ),
    drai(
        "x^ is handed on for x~",
        '"generated": generated,\n            "reconstructed": reconstructed,',
        '"generated": reconstructed,\n            "reconstructed": reconstructed,',
    ),
    drai(
        "the second pass is the first again",
        'return [first, {**second, "transformed": first["image"]}]',
        "return [first, first]",
        f"{SYSTEM}::test_training_twice_is_a_step_on_the_images_and_a_step_on_their_transformed_version",
    ),
    drai(
        "the second pass compares T(x) with itself",
        'return [first, {**second, "transformed": first["image"]}]',
        'return [first, {**second, "transformed": first["transformed"]}]',
        f"{SYSTEM}::test_training_twice_is_a_step_on_the_images_and_a_step_on_their_transformed_version",
    ),
    drai(
        "averages without the content encoder",
        "self.reverse_gradient = GradientReversal()\n        self.track_averages(self.networks(GENERATORS),",
        "self.reverse_gradient = GradientReversal()\n        self.track_averages(self.networks(GENERATORS[:3]),",
        STEP,
    ),
    (
        "averages are not updated",
        "tfdisent/training/adversarial.py",
        "            self.averages.update()\n",
        "            pass\n",
        STEP,
    ),
    (
        "averages follow the weights by the momentum",
        "tfdisent/training/averaging.py",
        "average.assign(momentum * average.value + (1 - momentum) * value)",
        "average.assign((1 - momentum) * average.value + momentum * value)",
        STEP,
    ),
    (
        "averages without their warm-up",
        "tfdisent/training/averaging.py",
        "return ops.minimum(self.momentum, (1 + count) / (10 + count))",
        "return ops.minimum(self.momentum, 1 + 0 * count)",
        STEP,
    ),
    (
        "Adam's beta_1 is beta_2",
        "tfdisent/training/system.py",
        "keras.optimizers.Adam(rate, c.beta_1, c.beta_2,",
        "keras.optimizers.Adam(rate, c.beta_2, c.beta_2,",
        STEP,
    ),
    (
        "the gradient is clipped by value",
        "tfdisent/training/system.py",
        "global_clipnorm=bound,",
        "clipvalue=bound,",
        STEP,
    ),
    (
        "the first pass alone trains",
        "tfdisent/training/adversarial.py",
        "passes = self.passes(self._batch(data))",
        "passes = self.passes(self._batch(data))[:1]",
        STEP,
    ),
]

VERBS = [
    drai(
        "a hybrid's content from the style image",
        'self.content_encoder(self.checked("image", content_image), training=False)',
        'self.content_encoder(self.checked("image", style_image), training=False)',
        f"{SYSTEM}::test_a_hybrid_has_one_images_style_and_the_content_of_another_or_of_a_condition",
    ),
    drai(
        "codes under each other's names",
        'return {"content": content, "style": style}',
        'return {"content": style, "style": content}',
        f"{SYSTEM}::test_encode_gives_the_posterior_means_and_calling_the_model_reconstructs",
    ),
    drai(
        "retrieval by the other code",
        "query_codes, codes = self.encode(query)[by], self.encode(database)[by]",
        'query_codes, codes = self.encode(query)["style"], self.encode(database)["style"]',
        f"{SYSTEM}::test_an_image_of_the_database_retrieves_itself_at_distance_zero",
    ),
    drai(
        "an interpolation of one code moves both",
        'weight if code in ("both", name) else 0.0',
        "weight",
        f"{SYSTEM}::test_an_interpolation_in_one_code_leaves_the_other",
    ),
]

COMPARED = [
    baselines(
        "D-cInfoGAN's c' read from x",
        "self.unread(self.content_encoder, generated, c, batch)",
        'self.unread(self.content_encoder, batch["image"], c, batch)',
    ),
    baselines(
        "cInfoGAN's z' read from x",
        '"style_code": self.unread(self.style_encoder, generated, z, batch),\n        }\n',
        '"style_code": self.unread(self.style_encoder, batch["image"], z, batch),\n        }\n',
    ),
    baselines(
        "cInfoGAN's encoder reads its images without noise",
        'encoder(image + self.config.reading_noise * batch["reading_noise"], training=True)',
        "encoder(image, training=True)",
        "tests/baselines/test_drai.py::test_codes_are_read_under_noise_that_hides_what_nobody_sees",
    ),
    baselines(
        "cInfoGAN's Q has a variance of 1",
        "return ops.mean(gaussian_nll(code, mean, log_variance))",
        "return ops.mean(gaussian_nll(code, mean, 0.0 * log_variance))",
    ),
    baselines(
        "cInfoGAN's encoder gets no gradient into its images",
        '"style_code": self.unread(self.style_encoder, generated, z, batch),\n        }\n',
        '"style_code": self.unread(self.style_encoder, ops.stop_gradient(generated), z, batch),\n        }\n',
        BASELINE_GRADIENTS,
    ),
    baselines(
        "D-cInfoGAN's content has the KL of its style",
        '"kl_condition": ops.mean(gaussian_kl(c_mean, c_log_variance)),',
        '"kl_condition": ops.mean(gaussian_kl(z, z)),',
    ),
    drai(
        "D-cInfoGAN's content code is not weighted",
        '("code_cycle", "style_code", "content_code")',
        '("code_cycle", "style_code")',
        BASELINE_TERMS,
    ),
    baselines(
        "cAVAE decodes N(0, I)",
        "reconstructed = self.generator([z_hat, t], training=True)",
        'reconstructed = self.generator([batch["style"], t], training=True)',
    ),
    baselines(
        "cAVAE's encoder does not fool D_xtz",
        '"g_style": told_apart(joint_score(d_xtz, reconstructed, t, z_hat), joint_score(d_xtz, x, t, z_hat))',
        '"g_style": ops.mean(real(joint_score(d_xtz, reconstructed, t, z_hat)))',
    ),
    baselines(
        "D_xtz the wrong way round",
        '"d_style": told_apart(joint_score(d_xtz, x, t, z_hat), joint_score(d_xtz, reconstructed, t, z_hat))',
        '"d_style": told_apart(joint_score(d_xtz, reconstructed, t, z_hat), joint_score(d_xtz, x, t, z_hat))',
    ),
    drai(
        "cAVAE's KL has no weight",
        '("kl_style", "kl_content", "kl_condition"), c.kl_weight',
        '("kl_content", "kl_condition"), c.kl_weight',
        BASELINE_TERMS,
    ),
    baselines(
        "D-cAVAE's D_cycle sees G_x(z^, c)",
        "self.decode_both((z_hat, c), (z_hat, c_hat))",
        "self.decode_both((z_hat, c), (z_hat, c))",
    ),
    baselines(
        "D-cAVAE's D_xt sees G_x(z^, c^)",
        "self.decode_both((z_hat, c), (z_hat, c_hat))",
        "self.decode_both((z_hat, c_hat), (z_hat, c_hat))",
    ),
    baselines(
        "D_xtc's fake pair given the inferred content",
        '"d_content": told_apart(joint_score(d_xtc, x, t, c_hat), joint_score(d_xtc, conditioned, t, c))',
        '"d_content": told_apart(joint_score(d_xtc, x, t, c_hat), joint_score(d_xtc, conditioned, t, c_hat))',
        "tests/baselines/test_drai.py::test_discriminators_that_know_the_truth_have_no_loss",
    ),
    baselines(
        "D_xtc's real pair given the content of the condition",
        '"g_content": told_apart(joint_score(d_xtc, conditioned, t, c), joint_score(d_xtc, x, t, c_hat))',
        '"g_content": told_apart(joint_score(d_xtc, conditioned, t, c), joint_score(d_xtc, x, t, c))',
    ),
    baselines(
        "D_xtz does not see the condition",
        "ops.concatenate([code, condition], axis=-1)",
        "ops.concatenate([code, 0.0 * condition], axis=-1)",
    ),
    baselines("D_xt of the baselines without its half", "training=True))) + 0.5 * (", "training=True))) + 1.0 * ("),
    baselines(
        "DAI keeps the code cycle",
        '{"self_supervision_weight": 0.0, "gradient_reversal_weight": 0.0, "code_cycle_weight": 0.0}',
        '{"self_supervision_weight": 0.0, "gradient_reversal_weight": 0.0}',
        TERMS,
    ),
    baselines(
        "selfReg is MIReg",
        '"DAI+selfReg", DRAI, {"gradient_reversal_weight": 0.0, "code_cycle_weight": 0.0}',
        '"DAI+selfReg", DRAI, {"self_supervision_weight": 0.0, "code_cycle_weight": 0.0}',
        TERMS,
    ),
    baselines(
        "D-cAVAE's averages without the condition encoder",
        '            config, config.content_dim + config.num_conditions, "content_discriminator"\n        )\n'
        '        self.cycle_discriminator = image_discriminator(config, 2 * config.channels, "cycle_discriminator")\n'
        "        self.track_averages(self.networks(GENERATORS),",
        '            config, config.content_dim + config.num_conditions, "content_discriminator"\n        )\n'
        '        self.cycle_discriminator = image_discriminator(config, 2 * config.channels, "cycle_discriminator")\n'
        "        self.track_averages(self.networks(GENERATORS[1:]),",
        BASELINE_STEP,
    ),
]

MEASURES = [
    evaluation(
        "live weights are evaluated",
        "    with model.averaged():\n        rows = rng",
        "    if True:\n        rows = rng",
    ),
    evaluation(
        "live weights make the pictures of training",
        "    with model.averaged():\n        reconstructed",
        "    if True:\n        reconstructed",
        PICTURES,
    ),
    evaluation(
        "hybrid class scored on the style image",
        "np.mean(answers == labels),",
        "np.mean(answers == labels[partner]),",
    ),
    evaluation(
        "hybrids of one class scored as of two",
        "np.mean((answers == labels)[differ])",
        "np.mean((answers == labels)[~differ])",
        SWAPPED,
    ),
    evaluation(
        "position R2 against the content image",
        "measure.coefficient_of_determination(truth[partner], predicted)",
        "measure.coefficient_of_determination(truth, predicted)",
    ),
    evaluation(
        "position's correlation with the style image for the content image's",
        "measure.squared_correlation(truth, predicted)",
        "measure.squared_correlation(truth[partner], predicted)",
    ),
    evaluation(
        "hybrids have their codes from one image",
        '"ab": (content, style[partner])',
        '"ab": (content, style)',
    ),
    evaluation(
        "the second swap does not swap back",
        'in_batches(again, ab["content"], ba["style"])',
        'in_batches(again, ab["content"], ab["style"])',
    ),
    evaluation(
        "CIFC compares the style of I_a with itself",
        '"aa": aa, "b": b',
        '"aa": a, "b": b',
        FORGETS,
    ),
    evaluation(
        "CGAcc against other conditions than were asked for",
        'measure.conditional_generation_accuracy(logits, test["label"][rows])',
        'measure.conditional_generation_accuracy(logits, test["label"][rows[::-1]])',
    ),
    evaluation(
        "CGAcc of real images",
        "logits.append(classifier.logits(images))",
        'logits.append(classifier.logits(test.take(rows[: len(images)])["image"]))',
        ONE_CLASS,
    ),
    evaluation(
        "reconstruction error of hybrids",
        'content, style = hybrids["reconstructed"]',
        'content, style = hybrids["ab"]',
    ),
    evaluation(
        "copies are looked for as they are alone",
        "versions, held_versions = measure.symmetries(generated), measure.symmetries(held_out)",
        "versions, held_versions = [generated], [held_out]",
        f"{GOLDEN_EVALUATION}::test_planted_copies_are_found_in_pixels_and_in_features_turned_ones_too",
    ),
    evaluation(
        "the images of the floor are in its reference too",
        "is_left[: len(from_train)] = ~np.isin(from_train, others)",
        "is_left[:] = True",
        f"{GOLDEN_EVALUATION}::test_each_distance_has_its_floor_of_real_images_that_are_not_in_the_reference",
    ),
    evaluation(
        "whole images are the reference of a model of crops",
        '{"train": train.mapped(_cropped), "test": test.mapped(_cropped)}',
        '{"train": train, "test": test}',
        f"{GOLDEN_EVALUATION}::test_a_model_of_crops_is_compared_with_crops",
    ),
    (
        "CIFC without the second image's codes",
        "tfdisent/metrics/disentanglement.py",
        "_distance(content_a, content_aa) + _distance(content_b, content_bb)",
        "_distance(content_a, content_aa)",
        "tests/metrics/test_disentanglement.py::test_cifc_sums_the_mean_absolute_error_of_the_four_codes",
    ),
    (
        "R2 is the squared correlation",
        "tfdisent/metrics/disentanglement.py",
        "residual = np.sum((true - predicted) ** 2, axis=0)",
        "residual = np.sum((true - true.mean(axis=0) - predicted + predicted.mean(axis=0)) ** 2, axis=0)",
        "tests/metrics/test_disentanglement.py::test_coefficient_of_determination_notices_a_shift_and_a_scale",
    ),
    (
        "label overlap takes labels twice as far for the closest",
        "tfdisent/metrics/retrieval.py",
        "found <= best * (1 + 1e-9) + 1e-12",
        "found <= best * (2 + 1e-9) + 1e-12",
        "tests/metrics/test_retrieval.py::test_label_overlap_does_not_take_the_second_closest_label_for_the_closest",
    ),
    (
        "retrieval by the sum of differences",
        "tfdisent/metrics/retrieval.py",
        '"cityblock") / self._codes.shape[1]',
        '"cityblock")',
        "tests/metrics/test_retrieval.py::test_nearest_orders_by_mean_absolute_error",
    ),
]

ENGINE = "tfdisent/training/adversarial.py"
SHARES = "tests/training/test_adversarial.py"
CLOSED_FORM = f"{SHARES}::test_a_terms_share_is_the_norm_of_its_weighted_gradient_over_the_sum_in_its_phase"

GRADIENT_SHARES = [
    ("terms are not weighted", ENGINE, "sum(weights.get(name, 1.0) * term for", "sum(term for", TERMS),
    ("shares without weights", ENGINE, "weights.get(name, 1.0) * value for", "value for", CLOSED_FORM),
    ("shares of two passes are added up", ENGINE, "value / whole / len(passes)", "value / whole", CLOSED_FORM),
    (
        "shares of the gradient's square",
        "tfdisent/training/gradients.py",
        "return ops.sqrt(sum(squares, ops.zeros(())))",
        "return sum(squares, ops.zeros(()))",
        CLOSED_FORM,
    ),
    (
        "shares move the seed",
        ENGINE,
        "        shares = {}\n        with backend.without_updates():",
        "        shares = {}\n        with contextlib.nullcontext():",
        f"{SHARES}::test_shares_are_of_the_present_weights_and_change_nothing",
    ),
    (
        "the norm of the first gradient alone",
        "tfdisent/training/gradients.py",
        "for g in gradients if g is not None",
        "for g in gradients[:1] if g is not None",
        "tests/training/test_gradients.py::"
        "test_the_norm_is_of_all_gradients_together_and_what_is_missing_counts_as_zeros",
    ),
]

R1 = f"{GOLDEN}::test_real_images_penalise_every_discriminators_gradient_in_the_plain_statement_too"
BASELINE_R1 = f"{GOLDEN_BASELINES}::test_real_images_penalise_every_discriminators_gradient_in_the_plain_statement_too"
TONES = f"{SYSTEM}::test_a_tone_is_a_gain_of_each_channel_and_a_brightness_within_the_range"
DRAWN_TONES = f"{SYSTEM}::test_tones_are_drawn_by_the_seed_apart_for_each_image_and_only_where_they_are_asked_for"
BOUND = f"{SYSTEM}::test_log_variances_keep_to_a_soft_bound_and_means_do_not"

DISCRIMINATORS_HELD = [
    drai("R1 is not halved", "0.5 * ops.mean(ops.sum(ops.square(g)", "ops.mean(ops.sum(ops.square(g)", R1),
    drai(
        "R1 averages over pixels",
        "ops.sum(ops.square(g), axis=(1, 2, 3))",
        "ops.mean(ops.square(g), axis=(1, 2, 3))",
        R1,
    ),
    drai("R1 has no weight", '"r1": c.r1_weight,', '"r1": 1.0,', R1),
    drai(
        "R1 on what is generated",
        "(lambda image: d_x(image, training=True), x)",
        "(lambda image: d_x(image, training=True), generated)",
        R1,
    ),
    drai(
        "R1 of D_xz at the prior's codes",
        "(lambda image: d_xz([image, z_hat], training=True), x)",
        "(lambda image: d_xz([image, z], training=True), x)",
        R1,
    ),
    drai(
        "R1 of D_cycle on reconstructions",
        "(lambda images: d_pair(images, training=True), pair(x, x))",
        "(lambda images: d_pair(images, training=True), pair(x, reconstructed))",
        R1,
    ),
    drai(
        "R1 without D_xt",
        "                (lambda image: self.condition_score(image, t), x),\n",
        "",
        R1,
    ),
    drai(
        "R1 without D_xc",
        "                (lambda image: d_xc([image, c_hat], training=True), x),\n",
        "",
        R1,
    ),
    baselines(
        "R1 without D_xtc", "                (lambda image: joint_score(d_xtc, image, t, c_hat), x),\n", "", BASELINE_R1
    ),
    baselines(
        "cInfoGAN's R1 without D_x", "                (lambda image: d_x(image, training=True), x),\n", "", BASELINE_R1
    ),
    drai("a gain of intensities from -1", "gain * (image + 1.0) - 1.0", "gain * image", TONES),
    drai("brightness by half", "2.0 * brightness", "brightness", TONES),
    drai("one gain for all channels", "amount[:, None, None, :-1]", "amount[:, None, None, :1]", TONES),
    drai("tones of a fixed strength", "config.tone_jitter * batch.get", "0.1 * batch.get", DRAWN_TONES),
    drai(
        "the log variance is bounded hard",
        "bound * ops.tanh(log_variance / bound)",
        "ops.clip(log_variance, -bound, bound)",
        BOUND,
    ),
    drai(
        "the mean is bounded too",
        "return mean, log_variance if bound",
        "return ops.tanh(mean), log_variance if bound",
        BOUND,
    ),
]

MUTATIONS = [
    *ADVERSARIAL,
    *CODES,
    *CONSTRAINTS,
    *STEPS,
    *VERBS,
    *COMPARED,
    *MEASURES,
    *GRADIENT_SHARES,
    *DISCRIMINATORS_HELD,
]
