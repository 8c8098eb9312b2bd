"""What figures are called and mean, how they are made, and what holds for every evaluation."""

from __future__ import annotations

SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Discrimination",
        (
            ("auroc", "AUROC", "chance that a positive image ranks above a negative one; 0.5 is guessing"),
            ("auprc", "AUPRC", "average precision; guessing gives the prevalence"),
            ("partial_auroc", "Partial AUROC", "where sensitivity is at least 0.9, scaled so that 0.5 is guessing"),
        ),
    ),
    (
        "At the operating point",
        (
            ("sensitivity", "Sensitivity", "share of positive images at or above the threshold"),
            ("specificity", "Specificity", "share of negative images below the threshold"),
            ("ppv", "PPV", "share of positives among images at or above the threshold"),
            ("npv", "NPV", "share of negatives among images below the threshold"),
            (
                "ppv_at_prevalence",
                "PPV at {prevalence}",
                "with this sensitivity and specificity",
            ),
            (
                "npv_at_prevalence",
                "NPV at {prevalence}",
                "with this sensitivity and specificity",
            ),
            ("lr_positive", "Positive likelihood ratio", "by how much being called multiplies the odds"),
            ("lr_negative", "Negative likelihood ratio", "by how much not being called multiplies the odds"),
            ("balanced_accuracy", "Balanced accuracy", "mean of sensitivity and specificity"),
            ("accuracy", "Accuracy", "share of right decisions; depends on the prevalence"),
        ),
    ),
    (
        "Use",
        (
            ("net_benefit_at_threshold", "Net benefit", "of acting by the model at the threshold, in true positives"),
            (
                "net_benefit_gain_at_threshold",
                "Net benefit gained",
                "over the better of acting on every image and on none; below 0 that is better than the model",
            ),
            ("aurc", "Area under risk-coverage", "mean share of errors when the least certain are left undecided"),
        ),
    ),
    (
        "Calibration",
        (
            ("calibration_intercept", "Calibration intercept", "0 is perfect; below 0, risks are overestimated"),
            ("calibration_slope", "Calibration slope", "1 is perfect; below 1, probabilities are too extreme"),
            ("calibration_error", "Calibration error", "root mean square in bins, its bias taken off; 0 is perfect"),
            ("ece", "ECE", "mean absolute error in bins; above 0 even for perfect probabilities"),
            ("brier", "Brier score", "mean squared error of the probability; 0 is perfect"),
            ("brier_scaled", "Scaled Brier score", "1 is perfect, 0 is the prevalence for everyone"),
            ("brier_reliability", "Brier: reliability", "the part that calibration could remove"),
            ("brier_resolution", "Brier: resolution", "what telling images apart takes off"),
            ("brier_uncertainty", "Brier: uncertainty", "what the prevalence alone gives"),
            ("brier_within_bins", "Brier: within bins", "the rest"),
            ("log_loss", "Log loss", "mean negative log likelihood; 0 is perfect"),
        ),
    ),
    (
        "With thresholds chosen on these very images, to compare models only",
        (
            (
                "sensitivity_at_specificity_90",
                "Sensitivity at specificity 90\u00a0%",
                "the highest that a threshold reaches",
            ),
            (
                "sensitivity_at_specificity_95",
                "Sensitivity at specificity 95\u00a0%",
                "the highest that a threshold reaches",
            ),
            (
                "specificity_at_sensitivity_90",
                "Specificity at sensitivity 90\u00a0%",
                "the highest that a threshold reaches",
            ),
            (
                "specificity_at_sensitivity_95",
                "Specificity at sensitivity 95\u00a0%",
                "the highest that a threshold reaches",
            ),
        ),
    ),
)
"""Sections of the figure tables: key in `evaluation.json`, name, meaning."""

HEADLINE = (
    "auroc",
    "auprc",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "ppv_at_prevalence",
    "npv_at_prevalence",
    "net_benefit_gain_at_threshold",
    "calibration_intercept",
    "calibration_slope",
    "brier",
)
"""Figures that stand side by side for all data sets; the others are with each data set."""

METHODS = {
    "intervals": "95 % intervals: patients (or groups of near-duplicates where patients are unknown) are drawn with "
    "replacement, each with all images; each data set says how limits are made of the resamples (percentiles, or BCa: "
    "Efron, JASA 82, 1987).",
    "shares": "A share of 0 or 1, which resampling cannot move, has Wilson's interval on the number of patients; "
    "an AUROC of 0 or 1 has Newcombe's (Statistics in Medicine 25, 2006, method 5).",
    "drop": "A drop is the internal figure less the external one. The two share no patients, so their resamples are "
    "paired at random; where an interval is not from resampling, the two are combined by the MOVER method.",
    "ranking": "AUROC: Mann-Whitney statistic, ties counting half; in closed form DeLong's variance (images) and "
    "Obuchowski's (Biometrics 53, 1997; patients). AUPRC: average precision, without interpolation. Partial AUROC: "
    "sensitivities from 0.9 on, scaled as by McClish (Med Decis Making 9, 1989).",
    "prevalence": "Predictive values at a stated prevalence follow from sensitivity and specificity by Bayes' rule.",
    "calibration": "Intercept: logistic recalibration with the slope held at 1 (calibration in the large). Slope: the "
    "fit of two parameters (Van Calster et al., J Clin Epidemiol 74, 2016). The smooth curve is a local regression "
    "(Austin and Steyerberg, Statistics in Medicine 33, 2014).",
    "binned": "ECE and the parts of the Brier score (Murphy, J Appl Meteorol 12, 1973) come from bins of equally many "
    "images. ECE is above 0 even for perfect probabilities; the calibration error has that bias taken off (Kumar, "
    "Liang and Ma, NeurIPS 2019).",
    "net_benefit": "TP/n - FP/n x t/(1 - t) at threshold probability t (Vickers and Elkin, Med Decis Making 26, 2006).",
    "abstaining": "Risk and coverage: the share of wrong decisions among images far from the threshold (Geifman "
    "and El-Yaniv, NeurIPS 2017; the area: Geifman, Uziel and El-Yaniv, ICLR 2019). Prediction "
    "sets: split conformal, one quantile for all classes or one for each "
    "(Sadinle, Lei and Wasserman, JASA 114, 2019).",
    "sites": "Summaries over hospitals: random effects by restricted maximum likelihood, Hartung and Knapp's interval, "
    "with t of k - 1 degrees of freedom, and the prediction interval for a new one of k hospitals with t of k - 2 "
    "(Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009; Partlett and Riley, Stat Med 36, 2017); at least three.",
    "classes": "With several classes: each against the rest, and Hand and Till's mean over pairs (Machine Learning 45, "
    "2001).",
    "readers": "Readers: the model less the reader, on the same images. AUROC by Obuchowski's covariance of paired "
    "areas; sensitivity and specificity by a paired patient bootstrap. Against the mean of several readers: Obuchowski "
    "and Rockette (Commun Stat Simul Comput 24, 1995) with Hillis' degrees of freedom (Stat Med 26, 2007), readers and "
    "patients random.",
    "subgroups": "Groups of fewer than 20 images get no figures, those of one class only sensitivity or "
    "specificity. Many groups are looked at: some "
    "differ by chance.",
}
"""How the figures were made, a sentence or two each."""

LIMITS = (
    "PPV, NPV, accuracy and AUPRC depend on the prevalence in these images, which is not that of a screening or a "
    "referral population.",
    "Public data sets mostly hold lesions that were found and biopsied; women without a lesion are hardly among them.",
    "One image is judged at a time, without the patient's history, the clinical examination or other views.",
    "These are retrospective figures. They do not tell what a reader with this model would do, nor what would become "
    "of the patients.",
    "Calipers, body markers and text burned into images may give the diagnosis away, here as in training.",
)
"""What holds for every such evaluation."""
