"""Parameters, paths, files, processes, signals and the console."""
