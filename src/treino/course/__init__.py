"""The course made real: labs that measure what a course about training language models simulates."""
