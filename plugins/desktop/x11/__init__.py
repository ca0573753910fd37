"""An X11 desktop: its screen, mouse, keyboard, windows, clipboard and notifications."""
