"""What an API process learns of predictions while they are made."""
