"""What several tests share: requirements on the machine, and the player of transcripts."""
