# Records what metafor says of several hospitals: Rscript metafor.R > metafor.json
# R 4.2, metafor 3.8, jsonlite. The tests read the JSON and need no R.
suppressMessages({library(metafor); library(jsonlite)})

cases <- list(
  # Four scanners of one hospital: cancers found, cancers.
  scanners = list(x = c(235, 275, 64, 11), n = c(243, 285, 68, 11)),
  # Hospitals that differ, and differ in size.
  hospitals = list(x = c(40, 30, 55, 20, 90), n = c(60, 50, 60, 50, 100)),
  # None missed at some, few elsewhere.
  sparse = list(x = c(9, 28, 40, 10, 55, 19, 30, 12), n = c(10, 30, 41, 10, 60, 20, 33, 12)),
  # More than a page lists; the small ones, which come first, do worse.
  many = list(x = 12 + (0:44) * 2 - (0:44 * 5) %% 7, n = 22 + (0:44) * 2 + (0:44 %% 3))
)

normal <- function(x, n, test) {
  effects <- escalc(measure = "PLO", xi = x, ni = n, add = 0.5, to = "only0")
  fit <- rma(yi, vi, data = effects, method = "REML", test = test, control = list(threshold = 1e-12, maxiter = 1000))
  list(effects = as.numeric(effects$yi), variances = as.numeric(effects$vi), mean = as.numeric(fit$beta),
       low = fit$ci.lb, high = fit$ci.ub, tau2 = fit$tau2, q = fit$QE, q_p = fit$QEp, i2 = fit$I2 / 100,
       error = fit$se, weights = as.numeric(weights(fit)) / 100)
}

binomial <- function(x, n) {
  fit <- rma.glmm(measure = "PLO", xi = x, ni = n, nAGQ = 25)
  list(mean = as.numeric(fit$beta), error = fit$se, tau2 = fit$tau2)
}

recorded <- lapply(cases, function(case) c(case, list(
  hartung_knapp = normal(case$x, case$n, "knha"),
  never_narrower = normal(case$x, case$n, "adhoc"),
  binomial_normal = binomial(case$x, case$n))))
cat(toJSON(recorded, digits = 10, auto_unbox = TRUE, pretty = TRUE), "\n")
