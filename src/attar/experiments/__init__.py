"""Jobs: from a recipe to trainings, suites, parallel runs and their reports."""
