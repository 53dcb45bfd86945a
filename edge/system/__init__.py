"""What the operating system offers: files, secrets, systemd, measurements."""
