"""What every room may use: errors, the command line, files, processes, run folders."""
