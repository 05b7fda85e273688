"""What every method stands on: columns, duals' master program, objective, evaluator, settings."""
