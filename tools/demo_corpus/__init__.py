"""The demo corpus: talkers, sentences, noises and rooms."""
