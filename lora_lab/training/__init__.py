"""Training: settings, plan, objective, loop, jobs. Import the module you need; this package imports none of them."""
