"""What separation is for: files of stems."""
