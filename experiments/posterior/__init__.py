"""How wrong approximate posteriors are, measured on mixtures whose posterior is exact."""
