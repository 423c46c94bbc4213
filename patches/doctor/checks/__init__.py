"""One module for each check of `registry.CHECKS`; each defines `run(checkout: LoadedCheckout) -> Finding`."""
