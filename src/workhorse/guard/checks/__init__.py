"""One threat a file: the rules that its settings compile to, and a pure function of these rules and the facts."""
