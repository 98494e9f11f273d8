"""The demo corpus: talkers, sentences, noises and the room in which they are recorded."""
