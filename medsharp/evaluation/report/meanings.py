"""How figures are made, and what holds for every evaluation."""

from __future__ import annotations

from medsharp.evaluation.statistics.registry import keys_where, names_of

_RECOMMENDED = ", ".join(names_of(keys_where(recommended=True)).values())

METHODS = {
    "intervals": "95 % intervals: patients (or groups of near-duplicates where patients are unknown) are drawn with "
    "replacement, each with all images; each data set says how limits are made of the resamples (percentiles, or BCa: "
    "Efron, JASA 82, 1987).",
    "shares": "A share of 0 or 1, which resampling cannot move, has Wilson's interval on the number of patients; "
    "an AUROC of 0 or 1 has Newcombe's (Statistics in Medicine 25, 2006, method 5).",
    "change": "A change is the external figure minus the internal one. The two share no patients, so their "
    "resamples are paired at random; where an interval is in closed form, the two are combined by the MOVER method.",
    "ranking": "AUROC: Mann-Whitney statistic, ties counting half; in closed form DeLong's variance (images) and "
    "Obuchowski's (Biometrics 53, 1997; patients). AUPRC: average precision, without interpolation. Partial AUROC: "
    "sensitivities from 0.9 on, scaled as by McClish (Med Decis Making 9, 1989).",
    "interactions": "Whether groups of a column differ: Wald's test with the groups' covariance from a paired patient "
    "bootstrap, Holm over the columns.",
    "prevalence": "Predictive values and decisions among 1,000 "
    "women at a stated prevalence follow from sensitivity and specificity by Bayes' rule.",
    "calibration": "Intercept: logistic recalibration with the slope held at 1 (calibration in the large). Slope: the "
    "fit of two parameters (Van Calster et al., J Clin Epidemiol 74, 2016). The smooth curve is a local regression "
    "(Austin and Steyerberg, Statistics in Medicine 33, 2014).",
    "smooth": "ICI, E50 and E90: mean, median and 90th percentile of the distance from the probability to that curve "
    "(Austin and Steyerberg, Statistics in Medicine 38, 2019).",
    "patients": "By patient: one score each, the mean or the highest of the images; a patient is positive if any image "
    "is. DeLong's and Wilson's limits.",
    "binned": "ECE and the parts of the Brier score (Murphy, J Appl Meteorol 12, 1973) come from bins of equally many "
    "images. ECE is above 0 even for perfect probabilities; the calibration error has that bias taken off (Kumar, "
    "Liang and Ma, NeurIPS 2019).",
    "net_benefit": "TP/n - FP/n x t/(1 - t) at threshold probability t (Vickers and Elkin, Med Decis Making 26, 2006); "
    "interventions avoided: TN/n - FN/n x (1 - t)/t (Vickers et al., BMC Med Inform Decis Mak 8, 2008).",
    "abstaining": "Risk and coverage: the share of wrong decisions among images far from the threshold (Geifman "
    "and El-Yaniv, NeurIPS 2017; the area: Geifman, Uziel and El-Yaniv, ICLR 2019). Prediction "
    "sets: split conformal, one quantile for all classes or one for each "
    "(Sadinle, Lei and Wasserman, JASA 114, 2019).",
    "refusals": "Images that an input check refuses have no answer, and the figures are of the others. Beside them: "
    "figures of all images, answered anyway, with the paired change; and sensitivity and specificity by intention to "
    "diagnose, a refused image counting as wrong (Simel et al., Med Decis Making 7, 1987; Schuetz et al., BMJ 345, "
    "2012).",
    "sites": "Summaries over hospitals are of the median one: random effects by restricted maximum likelihood with "
    "Hartung and Knapp's interval (t of k - 1 degrees of freedom), or, for shares of few events, the binomial-normal "
    "model with the interval of its profile likelihood; the prediction interval for a new one has t of k - 2 "
    "(Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009; Partlett and Riley, Stat Med 36, 2017); at least three.",
    "classes": "With several classes: each against the rest, and Hand and Till's mean over pairs (Machine Learning 45, "
    "2001).",
    "readers": "Readers: the model less the reader, on the same images. AUROC by Obuchowski's covariance of paired "
    "areas; sensitivity and specificity by a paired patient bootstrap. Against the mean of several readers: Obuchowski "
    "and Rockette (Commun Stat Simul Comput 24, 1995) with Hillis' degrees of freedom (Stat Med 26, 2007), readers and "
    "patients random.",
    "recommended": f"Of every evaluation {_RECOMMENDED}, the calibration plot and the distributions of the "
    "probabilities are asked (Van Calster et al., Lancet Digit Health 7, 2025); the other figures are optional.",
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
