"""What an API process hears of predictions while they are made."""
