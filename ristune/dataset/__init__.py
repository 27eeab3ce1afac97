"""Commands on a dataset: what is in it, whether it is sound, and its way from and to other formats."""
