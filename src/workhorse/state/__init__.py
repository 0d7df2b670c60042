"""The only home of drivers: one folder per backend, one contract each, one suite over all of them."""
