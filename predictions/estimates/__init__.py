"""When predictions will start and finish."""
