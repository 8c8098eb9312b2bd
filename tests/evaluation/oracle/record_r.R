# Records what R says of the data beside it, for test_oracle_r.py. Run in this folder:
#   Rscript record_r.R
# with Debian's r-cran-proc, r-cran-metafor, r-cran-rms and r-cran-jsonlite. R is not needed by the tests.
suppressMessages({
  library(pROC)
  library(metafor)
  library(rms)
  library(jsonlite)
})

# pROC's aSAH: 113 patients after aneurysmal subarachnoid haemorrhage (Turck et al., Intensive Care Med 36, 2010).
data(aSAH)
ill <- as.integer(aSAH$outcome == "Poor")
wfns <- as.integer(aSAH$wfns)
curves <- list(wfns = roc(ill, wfns, quiet = TRUE), s100b = roc(ill, aSAH$s100b, quiet = TRUE),
               ndka = roc(ill, aSAH$ndka, quiet = TRUE))
area <- function(curve) c(
  list(auroc = as.numeric(auc(curve)), variance = var(curve)),
  # Of a curve that dips below the diagonal pROC corrects nothing.
  if (auc(curve) > 0.65) list(partial_auroc = as.numeric(auc(
    curve, partial.auc = c(1, 0.9), partial.auc.focus = "sensitivity", partial.auc.correct = TRUE)))
)
paired <- function(first, second) {
  test <- roc.test(curves[[first]], curves[[second]], method = "delong", paired = TRUE)
  list(first = first, second = second, z = as.numeric(test$statistic), p = test$p.value)
}

# Probabilities of a model that is too sure of itself, of the same patients.
p <- round(plogis(1.7 * (qlogis(fitted(glm(ill ~ log(s100b) + age + wfns, binomial, data = cbind(aSAH, wfns = wfns)[
  , c("s100b", "age", "wfns")]))) + 0.4)), 6)
calibration <- val.prob(p, ill, pl = FALSE)
intercept <- coef(glm(ill ~ 1 + offset(qlogis(p)), binomial))[[1]]

# Seven hospitals: how many cancers and how many of them found; one found all of its own.
sites <- data.frame(site = c("Ash", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Oak"),
                    found = c(235, 61, 43, 26, 11, 88, 17), cancers = c(243, 85, 46, 38, 11, 104, 30))
pooled <- function(test) {
  effects <- escalc(measure = "PLO", xi = found, ni = cancers, data = sites, add = 0.5, to = "only0")
  fit <- rma(yi, vi, data = effects, method = "REML", test = test)
  limits <- predict(fit, transf = transf.ilogit)
  list(value = limits$pred, low = limits$ci.lb, high = limits$ci.ub, tau2 = fit$tau2, q = fit$QE, q_p = fit$QEp,
       weights = as.numeric(weights(fit)) / 100)
}

write_json(list(
  versions = list(R = paste(R.version$major, R.version$minor, sep = "."), pROC = as.character(packageVersion("pROC")),
                  metafor = as.character(packageVersion("metafor")), rms = as.character(packageVersion("rms"))),
  patients = data.frame(poor = ill, wfns = wfns, s100b = aSAH$s100b, ndka = aSAH$ndka, p = p),
  pROC = list(areas = lapply(curves, area), paired = list(paired("s100b", "wfns"), paired("s100b", "ndka"))),
  rms = list(slope = calibration[["Slope"]], intercept_at_slope_1 = intercept, brier = calibration[["Brier"]],
             auroc = calibration[["C (ROC)"]]),
  sites = sites,
  metafor = list(knha = pooled("knha"), adhoc = pooled("adhoc"))
), "r_values.json", digits = 12, auto_unbox = TRUE, pretty = FALSE)
