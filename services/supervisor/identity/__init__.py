"""Who an instance is, by its cloud's signed word, and the certificate that it gets for it."""
