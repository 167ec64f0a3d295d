"""The filter stage: language, quality, personal data and toxicity, one file per step, thresholds per language in a data file."""
