"""`python -m medsharp.optim` prints the table of optimizers that the documentation shows."""

from medsharp.optim.catalogue import markdown_table

print(markdown_table(), end="")
