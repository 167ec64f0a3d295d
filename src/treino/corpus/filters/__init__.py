"""The filter stage: language, quality, personal data and toxicity; one file per step, thresholds in a data file."""
