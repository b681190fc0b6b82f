"""What the verbs share: nouns, which never import a verb."""
