"""Who is let in, and what is never handed out."""
