"""Terminal sessions with tmux: any command-line program or agent becomes a worker."""
