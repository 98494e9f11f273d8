"""Parts that all packages may use: errors, the command line, files, processes, run folders."""
