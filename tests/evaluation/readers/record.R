# Records what R's pROC says of BI-RADS categories as a test, and of a made-up model beside a made-up reader.
#
#   Rscript tests/evaluation/readers/record.R BUSBRA/bus_data.csv > tests/evaluation/readers/recorded.json
#
# R is no dependency: tests read the JSON. Images of a patient count as independent here, as pROC has no clusters.
suppressMessages(library(pROC))
table <- read.csv(commandArgs(trailingOnly = TRUE)[1])
malignant <- as.integer(table$Pathology == "malignant")
birads <- roc(malignant, table$BIRADS, direction = "<", quiet = TRUE)
counts <- table(factor(table$BIRADS, levels = 2:5), malignant)

# Unequal classes, ties, one image a patient, so that DeLong's and Obuchowski's variances are one.
label <- c(1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0)
reader <- c(5, 2, 3, 4, 2, 3, 4, 1, 5, 2, 3, 2, 3, 2, 5, 4, 2, 1, 5, 3, 2, 4, 4, 2, 3)
model <- c(80, 22, 45, 60, 20, 62, 55, 10, 90, 30, 35, 41, 25, 15, 70, 58, 33, 5, 95, 40, 12, 52, 44, 28, 39) / 100
first <- roc(label, model, direction = "<", quiet = TRUE)
second <- roc(label, reader, direction = "<", quiet = TRUE)
test <- roc.test(first, second, method = "delong", paired = TRUE)
unpaired <- roc.test(first, second, method = "delong", paired = FALSE)

number <- function(value) format(value, digits = 15)
list_of <- function(values) paste0("[", paste(number(values), collapse = ", "), "]")
cat(sprintf('{
 "made_with": "R %s.%s, pROC %s",
 "birads": {
  "categories": ["2", "3", "4", "5"],
  "negative": %s,
  "positive": %s,
  "auroc": %s,
  "delong_variance": %s
 },
 "paired": {
  "label": %s,
  "reader": %s,
  "model": %s,
  "model_auroc": %s,
  "reader_auroc": %s,
  "p": %s,
  "low": %s,
  "high": %s,
  "unpaired_p": %s
 }
}
', R.version$major, R.version$minor, packageVersion("pROC"), list_of(counts[, "0"]), list_of(counts[, "1"]),
  number(as.numeric(auc(birads))), number(var(birads)), list_of(label), list_of(reader), list_of(model),
  number(as.numeric(auc(first))), number(as.numeric(auc(second))), number(test$p.value), number(test$conf.int[1]),
  number(test$conf.int[2]), number(unpaired$p.value)))
