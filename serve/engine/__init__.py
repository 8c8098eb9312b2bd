"""From uploaded bytes to answers: the queue, its bounds, and what is drawn of an answer."""
